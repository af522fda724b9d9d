"""What the commands of ``layerlab graph`` share: options, and what is said of the batches that are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from layerlab.graph.sampling.batching import Batching
    from layerlab.graph.sampling.memory import Choice

Data = Annotated[
    str, typer.Argument(metavar="DATA", help="cora, citeseer, pubmed, a folder of yours, or a store.")
]
Protocol = Annotated[
    str | None,
    typer.Option(
        help="public: the data's own split. random: 60/20/20 a seed. course: 140 random training nodes, 100 epochs."
        " Default: public where there is one."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train in mini-batches of so many nodes. Default: a full batch where an estimate says that it fits into"
        " memory, else 1024.",
    ),
]
Fanout = Annotated[
    str | None,
    typer.Option(
        help="Neighbours that a mini-batch draws, one number a layer, the last layer's first, such as 15,10,5; 'all'"
        " draws none. Says how many layers GCN and GAT have. Default: 15,10,5,5,... for the layers there are."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bits on one machine.")]


def batching_of(size: int | None, fanout: str | None) -> Batching | None:
    """The mini-batches that were asked for."""
    from layerlab.graph.sampling.batching import SIZE, Batching, parse_fanouts

    if size is None and fanout is None:
        return None
    return Batching(size or SIZE, () if fanout is None else parse_fanouts(fanout))


def say_choice(choice: Choice, of: str = "") -> None:
    """Full batch or mini-batches and why, where that is not plain."""
    from layerlab.cli.output import say

    if choice.notable:
        say(of + choice.sentence)
