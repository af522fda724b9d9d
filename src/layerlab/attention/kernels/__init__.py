"""Kernels of linear attention, and how they become operators of torch."""
