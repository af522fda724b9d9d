"""`layerlab graph`: train, predict and race graph neural networks."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Graphs: train, predict and race GCN, GAT, SGC and an MLP.")
