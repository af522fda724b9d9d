"""What the tests of claims share: the module beside them."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))
