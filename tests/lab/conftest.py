"""What the tests of the lab share: the modules beside them."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves sys.path alone; worker processes get a copy of it.
sys.path.insert(0, str(Path(__file__).parent))
