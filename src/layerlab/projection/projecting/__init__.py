"""Projecting somebody's data: draw, measure, draw again on failure, and tell it."""

from __future__ import annotations
