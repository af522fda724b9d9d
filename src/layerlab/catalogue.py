"""Every claim of every domain, gathered in one register.

This belongs to the roof: `layerlab.claims` knows no domain, and a domain knows no other.
"""

from __future__ import annotations

from functools import cache

from layerlab.claims import Register


@cache
def catalogue() -> Register:
    """The register of all claims. A domain that brings claims adds its ``theorems.CLAIMS`` here.

    The domains are imported on the first call, so that the roof itself stays light.

    >>> catalogue()["graph.lambda-max"].statement
    'λ_max(L) ≤ 2 for the normalised Laplacian L = D^(−1/2) (D − A) D^(−1/2)'
    """
    from layerlab.graph import theorems as graph

    return Register(graph.CLAIMS)
