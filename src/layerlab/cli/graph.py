"""``layerlab graph``: inspect a graph; train, predict and race graph neural networks on it."""

from __future__ import annotations

import typer

from layerlab.cli import (
    graph_attention,
    graph_convert,
    graph_inspect,
    graph_predict,
    graph_race,
    graph_train,
)

app = typer.Typer(
    help="Inspect a graph; train, predict and race GCN, GAT, SGC and an MLP on its nodes.",
    epilog="Example: layerlab graph race cora --models gcn,gat,sgc,mlp --seeds 20",
    no_args_is_help=True,
)

app.command(epilog=graph_inspect.EPILOG)(graph_inspect.inspect)
app.command(epilog=graph_train.EPILOG)(graph_train.train)
app.command(epilog=graph_predict.EPILOG)(graph_predict.predict)
app.command(epilog=graph_race.EPILOG)(graph_race.race)
app.command(epilog=graph_attention.EPILOG)(graph_attention.attention)
app.command(epilog=graph_convert.EPILOG)(graph_convert.convert)
