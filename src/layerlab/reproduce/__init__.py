"""The two course documents, run again chapter by chapter, on one page.

This is the roof: it knows every domain, and nothing but the command line knows it.
"""

from __future__ import annotations

from layerlab.reproduce.chapter import Amount, Step
from layerlab.reproduce.run import CHAPTERS, DEFAULT, FULL, QUICK, reproduce

__all__ = ["CHAPTERS", "DEFAULT", "FULL", "QUICK", "Amount", "Step", "reproduce"]
