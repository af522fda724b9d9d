"""Remedies against vanishing and exploding gradients, tried on a copy of the model and measured."""

from __future__ import annotations
