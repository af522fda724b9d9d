"""`layerlab reproduce`: the documents' experiments, run again, on one page."""

from __future__ import annotations

EPILOG = "Example: layerlab reproduce --only graph --out reproduce"


def reproduce() -> None:
    """Run the documents' experiments and write report.html."""
