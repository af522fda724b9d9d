"""Gradients and activations recorded during a training."""

from __future__ import annotations
