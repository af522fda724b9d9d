"""`layerlab claims`: the theorems this package checks, and the checks themselves."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="List, read and check the theorems.")
