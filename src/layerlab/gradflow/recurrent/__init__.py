"""Jacobians through time: recurrent layers, their bounds and horizons, and other initialisations tried."""

from __future__ import annotations

from layerlab.gradflow.recurrent.initialisation import Comparison, compare_initialisations
from layerlab.gradflow.recurrent.result import LayerTime, ThroughTime
from layerlab.gradflow.recurrent.through_time import through_time

__all__ = ["Comparison", "LayerTime", "ThroughTime", "compare_initialisations", "through_time"]
