"""Graphs: structure, operators, layers, models, data and the claims about them."""

from __future__ import annotations

from layerlab.graph.structure import Graph

__all__ = ["Graph"]
