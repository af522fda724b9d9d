"""The data sets that layerlab knows by name, and where each of them lies. Reads none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from layerlab.errors import UserError
from layerlab.lab.cache import cache_folder


@dataclass(frozen=True)
class KnownSet:
    """What is known of a data set before it is read.

    Args:
        name: the name that `layerlab.graph.datasets.load` takes.
        nodes, edges, features, classes: its sizes; undirected edges without self-loops.
        split_sizes: nodes in the train, validation and test parts of its public split.
        origin: one line on where it comes from.
        in_package: whether its file comes with layerlab.
    """

    name: str
    nodes: int
    edges: int
    features: int
    classes: int
    split_sizes: tuple[int, int, int]
    origin: str
    in_package: bool = False

    @property
    def path(self) -> Path:
        """Where its file lies, or would lie once fetched."""
        if self.in_package:
            return Path(str(resources.files("layerlab") / "graph" / "data" / f"{self.name}.npz"))
        return cache_folder() / f"{self.name}.npz"

    @property
    def is_here(self) -> bool:
        """Whether its file is there (whether it is good is known once it is read)."""
        return self.path.is_file()

    @property
    def where(self) -> str:
        """For a person: "package", "fetched" or "not fetched"."""
        if self.in_package:
            return "package"
        return "fetched" if self.is_here else "not fetched"

    @property
    def mend(self) -> str:
        """What to do when its file is damaged."""
        if self.in_package:
            return "reinstall layerlab"
        return f"run `layerlab data get {self.name}`, which replaces it"


KNOWN = {
    known.name: known
    for known in (
        KnownSet(
            name="cora",
            nodes=2708,
            edges=5278,
            features=1433,
            classes=7,
            split_sizes=(140, 500, 1000),
            origin="LINQS Cora (Sen et al. 2008), public split of Yang, Cohen and Salakhutdinov (2016)",
            in_package=True,
        ),
        KnownSet(
            name="citeseer",
            nodes=3327,
            edges=4552,
            features=3703,
            classes=6,
            split_sizes=(120, 500, 1000),
            origin="CiteSeer in Planetoid's files (Yang, Cohen and Salakhutdinov 2016)",
        ),
        KnownSet(
            name="pubmed",
            nodes=19717,
            edges=44324,
            features=500,
            classes=3,
            split_sizes=(60, 500, 1000),
            origin="PubMed in Planetoid's files (Yang, Cohen and Salakhutdinov 2016)",
        ),
    )
}


def find(name: str) -> KnownSet:
    """The known set of that name.

    Raises:
        UserError: there is none.

    >>> find("cora").nodes
    2708
    """
    if name not in KNOWN:
        raise UserError(f"expected one of {', '.join(KNOWN)}; got '{name}'")
    return KNOWN[name]
