"""``layerlab estimator``: gradients of functions that have none, and what they cost on yours."""

from __future__ import annotations

import typer

from layerlab.cli import estimator_inspect, estimator_optimise, estimator_policy

app = typer.Typer(
    help="Score-function gradients of a function of yours: their variance, and optimisation with them.",
    epilog="Example: layerlab estimator inspect examples/parity.py:f --bits 12",
    no_args_is_help=True,
)

app.command(epilog=estimator_inspect.EPILOG)(estimator_inspect.inspect)
app.command(epilog=estimator_optimise.EPILOG)(estimator_optimise.optimise)
app.command(epilog=estimator_policy.EPILOG)(estimator_policy.policy)
