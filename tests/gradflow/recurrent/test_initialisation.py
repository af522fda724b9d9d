"""Other initialisations, on a copy."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from layerlab.errors import UserError
from layerlab.gradflow.recurrent import compare_initialisations, through_time

from .modules import Decoder, Tagger, made, randn


def test_initialisations_are_tried_on_a_copy() -> None:
    torch.manual_seed(0)
    model = Tagger().double()
    before = copy.deepcopy(model.state_dict())
    tokens = torch.randint(0, 11, (3, 40))
    seen: list[float] = []
    found = compare_initialisations(model, tokens, progress=lambda share, text: seen.append(share))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert list(found.after) == ["orthogonal", "open forget gates"]
    for index, layer in enumerate(found.before.layers):
        as_is, orthogonal, open_ = (
            one.layers[index].vanishing.first for one in (found.before, *found.after.values())
        )
        assert as_is is not None and layer.verdict == "vanishing"
        assert as_is < orthogonal < open_, (as_is, orthogonal, open_)
        paths = [one.layers[index].carry.log_median for one in found.after.values()]
        # Biases of 1 against ones of at most 0.9 by default, mostly near 0: sigmoid(1)/sigmoid(0) is e^0.38.
        assert (paths[1][:, -1] > paths[0][:, -1] + 0.2 * 39).all()
    assert seen == sorted(seen) and seen[-1] == 1.0
    written = found.to_dict()
    json.dumps(written, allow_nan=False)
    assert list(written["layers"][0]["arms"]) == list(written["arms"]) == ["as is", *found.after]
    [wide] = compare_initialisations(made("tanh", 2, 6), randn(9, 2, 2)).after.values()
    np.testing.assert_allclose(wide.layers[0].bounds[0].log, 0, atol=1e-12)
    parametrised = nn.utils.parametrizations.orthogonal(nn.RNNCell(2, 3), "weight_hh")
    assert len(through_time(Decoder(parametrised), randn(5, 2, 2).float()).layers) == 1
    with pytest.raises(UserError, match="parametrised"):
        compare_initialisations(Decoder(parametrised), randn(5, 2, 2).float())
