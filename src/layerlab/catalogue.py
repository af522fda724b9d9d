"""Every claim of every domain, gathered in one register.

This belongs to the roof: `layerlab.claims` knows no domain, and a domain knows no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from layerlab.claims import Claim, Register
from layerlab.errors import UserError

if TYPE_CHECKING:
    from layerlab.graph.structure import Graph


@cache
def catalogue() -> Register:
    """The register of all claims, in the order of the documents' sections.

    A domain that brings claims adds its ``theorems.CLAIMS`` here.

    The domains are imported on the first call, so that the roof itself stays light.

    >>> catalogue()["graph.lambda-max"].statement
    'λ_max(L) ≤ 2 for the normalised Laplacian L = D^(−1/2) (D − A) D^(−1/2)'
    """
    from layerlab.attention import theorems as attention
    from layerlab.estimators import theorems as estimators
    from layerlab.gradflow import theorems as gradflow
    from layerlab.graph import theorems as graph
    from layerlab.projection import theorems as projection
    from layerlab.segmentation import theorems as segmentation

    domains = (gradflow, attention, estimators, projection, graph, segmentation)
    return Register(claim for domain in domains for claim in domain.CLAIMS)


def graph_for(data: str, claims: Iterable[Claim]) -> Graph:
    """A user's graph, on which these claims are to be checked.

    Args:
        data: whatever `layerlab.graph.sources.load_graph` takes.
        claims: the claims.

    Raises:
        UserError: one of the claims is not about graphs, or the data cannot be read.

    >>> graph_for("cora", [catalogue()["graph.lambda-max"]])
    Graph(2708 nodes, 5278 undirected edges)
    """
    from layerlab.graph.sources import load_graph

    for claim in claims:
        if not claim.id.startswith("graph."):
            raise UserError(
                f"--on gives a graph, but {claim.id} is no claim about graphs; choose among graph.*"
            )
    return load_graph(data)
