"""The example transformer is trained: the weights beside it answer what its page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from layerlab.lab.subjects import load

EXAMPLE = Path(__file__).parents[1] / "examples" / "transformer.py"


def from_example(name: str) -> Any:
    return load(f"{EXAMPLE}:{name}")


def test_its_weights_answer_nearly_every_token_rightly() -> None:
    net = from_example("model")()
    assert not net.training
    assert from_example("accuracy")(net) > 0.995
    # Of half the tokens it must judge a party by fewer ballots.
    assert from_example("accuracy")(net, 256) > 0.85


def test_it_looks_at_the_votes_and_not_at_chance() -> None:
    tokens = from_example("example_inputs")()
    assert tokens.shape == (8, 1024)
    with torch.no_grad():
        net = from_example("model")()
        clean, opposite = net(tokens).argmax(-1), net(tokens ^ 1).argmax(-1)
    # Every ballot the other way round turns every answer round.
    assert float((clean != opposite).double().mean()) > 0.99
