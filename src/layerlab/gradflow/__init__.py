"""Gradient flow: Jacobians of models, their singular values, and the claims about them."""
