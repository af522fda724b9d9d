"""Weights to and from torch_geometric's layers of the same names (the package is imported only when used)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.graph.layers import GATConv, GCNConv, SGConv


def _copy(target: torch.Tensor | None, source: torch.Tensor | None) -> None:
    if target is not None and source is not None:
        with torch.no_grad():
            target.copy_(source.reshape(target.shape))


def from_pyg(module: nn.Module) -> GCNConv | GATConv | SGConv:
    """A layer that computes what a torch_geometric ``GCNConv``, ``GATConv`` or ``SGConv`` does, on copied weights.

    Raises:
        UserError: another module, or an option that layerlab's layer does not have (edge features, residual,
            bipartite inputs, ``improved``, ``normalize=False``, ``add_self_loops=False`` for attention or SGConv,
            another flow or aggregation).
    """
    kind = type(module).__name__
    source: Any = module
    if kind in ("GCNConv", "SGConv") and not getattr(source, "normalize", True):
        raise UserError(
            f"{kind} with normalize=False has no counterpart; pass layerlab's layer your own SparseMatrix"
        )
    if kind in ("GCNConv", "GATConv", "SGConv"):
        flow, how = getattr(source, "flow", "source_to_target"), getattr(source, "aggr", "add")
        if flow != "source_to_target" or how not in ("add", "sum"):
            raise UserError(
                f"{kind} with flow={flow!r} and aggr={how!r} has no counterpart; expected 'source_to_target' and 'add' "
                "(a graph's edges are reversed by Graph.transpose)"
            )
    layer: GCNConv | GATConv | SGConv
    if kind == "GCNConv":
        if source.improved:
            raise UserError("GCNConv with improved=True (self-loops of weight 2) has no counterpart here")
        out_features, in_features = source.lin.weight.shape
        layer = GCNConv(in_features, out_features, source.bias is not None, source.add_self_loops)
        _copy(layer.weight, source.lin.weight)
        _copy(layer.bias, source.bias)
    elif kind == "GATConv":
        if source.lin is None or source.edge_dim is not None or source.residual or not source.add_self_loops:
            raise UserError(
                "expected a GATConv for one node set, with self-loops, without edge features or residual"
            )
        layer = GATConv(
            source.lin.weight.shape[1],
            source.out_channels,
            source.heads,
            source.concat,
            dropout=source.dropout,
            negative_slope=source.negative_slope,
            bias=source.bias is not None,
        )
        _copy(layer.weight, source.lin.weight)
        _copy(layer.att_source, source.att_src)
        _copy(layer.att_target, source.att_dst)
        _copy(layer.bias, source.bias)
    elif kind == "SGConv":
        if not source.add_self_loops:
            raise UserError(
                "SGConv with add_self_loops=False has no counterpart; precompute with your own SparseMatrix"
            )
        out_features, in_features = source.lin.weight.shape
        layer = SGConv(in_features, out_features, source.K, source.lin.bias is not None)
        _copy(layer.linear.weight, source.lin.weight)
        _copy(layer.linear.bias, source.lin.bias)
    else:
        raise UserError(f"expected torch_geometric's GCNConv, GATConv or SGConv, got {kind}")
    return layer.to(source.lin.weight.dtype)


def to_pyg(layer: GCNConv | GATConv | SGConv) -> nn.Module:
    """The torch_geometric layer that computes what this one does, on copied weights.

    A shared attention vector is repeated for every head.

    Raises:
        UserError: torch_geometric is not installed, or the layer is none of the three.
    """
    try:
        from torch_geometric import nn as pyg
    except ImportError as error:
        raise UserError("torch_geometric is not installed: pip install 'layerlab[interop]'") from error
    module: Any
    if isinstance(layer, GCNConv):
        module = pyg.GCNConv(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            add_self_loops=layer.self_loops,
        )
        _copy(module.lin.weight, layer.weight)
        _copy(module.bias, layer.bias)
        dtype = layer.weight.dtype
    elif isinstance(layer, GATConv):
        module = pyg.GATConv(
            layer.in_features,
            layer.out_features,
            layer.heads,
            layer.concat,
            layer.negative_slope,
            layer.dropout,
            bias=layer.bias is not None,
        )
        shape = (layer.heads, layer.out_features)
        _copy(module.lin.weight, layer.weight)
        _copy(module.att_src, layer.att_source.expand(shape))
        _copy(module.att_dst, layer.att_target.expand(shape))
        _copy(module.bias, layer.bias)
        dtype = layer.weight.dtype
    elif isinstance(layer, SGConv):
        linear = layer.linear
        module = pyg.SGConv(
            linear.in_features, linear.out_features, layer.steps, bias=linear.bias is not None
        )
        _copy(module.lin.weight, linear.weight)
        _copy(module.lin.bias, linear.bias)
        dtype = linear.weight.dtype
    else:
        raise UserError(f"expected layerlab's GCNConv, GATConv or SGConv, got {type(layer).__name__}")
    converted: nn.Module = module.to(dtype)
    return converted
