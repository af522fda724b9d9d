"""``layerlab estimator``: gradients of functions that have none, and what they cost on yours."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Score-function gradients of a function of yours: their variance, and optimisation with them.",
    no_args_is_help=True,
)
