"""Linear attention against its dense twin, `layerlab.attention.reference`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention.features import EluPlusOne, FeatureMap, Identity, ReLU, feature_map
from layerlab.attention.linear import CancellationWarning, LinearState, linear_attention
from layerlab.errors import UserError
from tests.attention.rounding import dense, draw, magnitudes, with_gradients
