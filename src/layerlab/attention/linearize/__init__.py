"""Exchanging a trained model's softmax attention for a linear one: choose, fit, swap, measure, write."""

from __future__ import annotations
