"""The data sets: Cora, in the package; CiteSeer and PubMed, once fetched; and a person's own folder."""

from __future__ import annotations

from pathlib import Path

from layerlab.errors import UserError
from layerlab.graph import archive
from layerlab.graph.folder import load_folder
from layerlab.graph.known import KNOWN
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.store.layout import is_store
from layerlab.graph.store.opened import open_store

__all__ = ["NodeDataset", "Split", "load"]


def load(name_or_path: str | Path, *, need_labels: bool = True) -> NodeDataset:
    """A data set by name, or a person's own from its folder.

    Known names come before folders; write ``./cora`` for a folder of that name. Cora's public split is
    Planetoid's (20 training nodes a class, 500 validate, 1,000 test), found by the exact isomorphism of the
    two releases. The course protocol's random split is `layerlab.graph.splits.course_split`.

    Args:
        name_or_path: "cora", "citeseer", "pubmed", a folder with ``edges.csv`` and ``nodes.csv``
            (see `layerlab.graph.folder.load_folder`), or a store that `layerlab graph convert` made.
        need_labels: whether a folder without labels is refused; prediction needs none.

    Raises:
        UserError: neither a known name nor a folder, not fetched yet, damaged, or a folder whose files are
            wrong.

    >>> cora = load("cora")
    >>> cora.num_nodes, cora.graph.num_edges, cora.num_features, cora.features.nnz
    (2708, 5278, 1433, 49216)
    >>> cora.class_names[0], cora.split.sizes
    ('Case_Based', (140, 500, 1000))
    """
    known = KNOWN.get(str(name_or_path))
    if known is None:
        path = Path(name_or_path)
        if not path.exists():
            raise UserError(
                f"expected a data set ({', '.join(KNOWN)}) or a folder with edges.csv and nodes.csv; "
                f"there is no '{name_or_path}'"
            )
        if is_store(path):
            return open_store(path).dataset(need_labels=need_labels)
        return load_folder(path, need_labels=need_labels)
    if not known.in_package and not known.is_here:
        raise UserError(f"{known.name} is not here yet; run `layerlab data get {known.name}`")
    return archive.read(known.path, mend=known.mend)
