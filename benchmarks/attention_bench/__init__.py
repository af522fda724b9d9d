"""Pieces of the attention benchmark."""
