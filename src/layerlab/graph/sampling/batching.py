"""How a training is cut into mini-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from layerlab.errors import UserError
from layerlab.graph.sampling.neighbours import checked_fanouts

SIZE = 1024
# What most report for three layers; GraphSAGE's authors (Hamilton, Ying and Leskovec 2017) took 25 and 10 for two.
_FANOUTS = (15, 10, 5)


@dataclass(frozen=True)
class Batching:
    """Mini-batches of nodes, and how many neighbours a layer reads.

    Args:
        size: training nodes a batch.
        fanouts: as for `layerlab.graph.sampling.neighbours.Sampler`: one a layer, the last layer's first. Unused by
            SGC and MLP.

    Raises:
        UserError: a size below 1, or fan-outs of another kind.
    """

    size: int = SIZE
    fanouts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size < 2**31:
            raise UserError(f"expected a batch size of at least 1, got {self.size!r}")
        object.__setattr__(self, "fanouts", checked_fanouts(self.fanouts))

    def for_layers(self, layers: int) -> tuple[int, ...]:
        """The fan-outs of so many layers: the given ones, or 15, 10, 5, 5, ...

        Raises:
            UserError: others were given than there are layers.

        >>> Batching(512).for_layers(2), Batching(512, (4, 4)).for_layers(2)
        ((15, 10), (4, 4))
        """
        if not self.fanouts:
            return (*_FANOUTS, *_FANOUTS[-1:] * layers)[:layers]
        if len(self.fanouts) != layers:
            raise UserError(
                f"expected one fan-out for each of {layers} layers, got {len(self.fanouts)}: "
                f"{','.join(map(str, self.fanouts))}"
            )
        return self.fanouts

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"size": self.size, "fanouts": list(self.fanouts)}


def parse_fanouts(text: str) -> tuple[int, ...]:
    """Fan-outs as people write them.

    Raises:
        UserError: something else than whole numbers with commas between them.

    >>> parse_fanouts("15,10,5"), parse_fanouts("all, 5")
    ((15, 10, 5), (-1, 5))
    """
    try:
        numbers = tuple(-1 if part.strip() == "all" else int(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"expected numbers of neighbours with commas between them, one a layer, such as 15,10,5; got {text!r}"
        ) from None
    return checked_fanouts(numbers)
