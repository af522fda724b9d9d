"""Fused CPU kernels, and the torch operators and autograd steps made of them."""
