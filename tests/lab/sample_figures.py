"""Numbers for figures, and a text that nobody should take for markup: what the tests of page and figures draw."""

from __future__ import annotations

from layerlab.lab.report import figures
from layerlab.lab.report.page import Figure

HOSTILE = "<script>alert(1)</script> \"><img src=x onerror='alert(2)'> &amp; {{ 7*7 }} $\\frac ]]> --> 例"
GROUPS = [
    {"label": "GCN", "values": [81.0, 81.5, 81.5, None, 82.0], "mean": 81.5, "low": 81.0, "high": 82.0},
    {"label": "GAT", "values": [82.9, 83.1], "mean": 83.0, "low": 82.8, "high": 83.2},
]
REFERENCE = [
    {"group": "GAT", "value": 83.0, "label": "paper"},
    {"group": "GCN", "value": 65.15, "label": "document"},
]
PAIRS = [
    {"label": "GAT − GCN", "mean": 1.5, "low": 1.1, "high": 1.9},
    {"label": "GCN − SGC", "mean": -0.1, "low": -0.4, "high": 0.2},
]
CURVES = [
    {"label": "GCN", "x": [1, 2, 3], "mean": [20.0, None, 60.0], "low": [18, 30, 55], "high": [22, 40, 65]},
    {"label": "GAT", "x": [1, 2, 3], "mean": [25.0, 50.0, 70.0]},
]


def strip(**changes: object) -> Figure:
    return figures.accuracy_strip(GROUPS, REFERENCE, "accuracy, per cent", **changes)  # type: ignore[arg-type]


YLABEL = "validation accuracy, per cent"
