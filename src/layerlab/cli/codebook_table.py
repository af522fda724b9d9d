"""Codebooks in the terminal: what is known of vectors that were made, and of vectors that were inspected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def print_codebook(record: Record) -> None:
    """What `layerlab codebook make` made: standard output."""
    from layerlab.cli.output import print_table
    from layerlab.projection.inspection.text import codebook_rows, codebook_sentences, codebook_title

    print_table(codebook_title(record), ["", "", "what it is"], codebook_rows(record), left=3)
    _print_sentences(codebook_sentences(record))


def print_inspection(record: Record) -> None:
    """What `layerlab codebook inspect` found: standard output."""
    from layerlab.cli.output import print_table
    from layerlab.projection.inspection.text import inspection_rows, inspection_title, nearest_rows

    print_table(inspection_title(record), ["", "", "what it is"], inspection_rows(record), left=3)
    print_table("nearest pairs", ["first", "second", "cosine", "degrees"], nearest_rows(record), left=0)
    _print_sentences(record["findings"])


def _print_sentences(sentences: list[str]) -> None:
    from rich.text import Text

    from layerlab.cli.output import console

    terminal = console()
    for sentence in sentences:
        terminal.print(Text(f"  - {sentence}"))
