"""Fused CPU kernels behind `layerlab.graph.ops`."""
