"""Makes the modules beside the tests (`toy_cells`, `toy_tasks`) importable, in worker processes too."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves sys.path alone; worker processes get a copy of it.
sys.path.insert(0, str(Path(__file__).parent))
