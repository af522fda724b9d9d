"""Bounds of Jacobians by theorem, operation by operation.

A rule for each torch operation (`elementwise`, `linear`, `shape`, `normalization`, `attention`) says by how much it can
amplify each argument; `combination` puts them together over the dataflow.
"""

from __future__ import annotations
