"""Every mechanism: its weights are what it applies, it says what it cannot do, and it learns what is learnable."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.attention import mechanisms, reference
from layerlab.attention.features import EluPlusOne, Hedgehog
from layerlab.attention.mechanisms import (
    Linear,
    Linformer,
    LowRank,
    Mechanism,
    Nystrom,
    Softmax,
    mechanism,
)
from layerlab.errors import UserError

BATCH, HEADS, KV_HEADS, SIZE = 2, 4, 2, 3
EVERY = [
    Softmax(),
    Linear(),
    Linear("relu"),
    Linear("random", head_size=SIZE),
    Linear("hedgehog", heads=HEADS, head_size=SIZE, kv_heads=KV_HEADS),
    Nystrom(3),
    LowRank(2),
    Linformer(9, 4),
    Linformer(9, 4, heads=KV_HEADS),
    Linformer(9, 4, heads=HEADS),
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(n: int = 7, m: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    return (
        random(BATCH, HEADS, n, SIZE),
        random(BATCH, KV_HEADS, m, SIZE, seed=1),
        random(BATCH, KV_HEADS, m, 5, seed=2),
    )


def close(left: Tensor, right: Tensor, tolerance: float = 1e-10) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < tolerance)


def learned(given: Mechanism) -> Mechanism:
    """In float64, with parameters as training leaves them."""
    given = copy.deepcopy(given).double()
    with torch.no_grad():
        for parameter in given.parameters():
            parameter.add_(0.1 * random(*parameter.shape, seed=3))
    return given


@pytest.mark.parametrize("given", EVERY, ids=repr)
def test_the_output_is_the_weights_times_the_values(given: Mechanism) -> None:
    given = learned(given)
    q, k, v = heads()
    mask = torch.ones(BATCH, 1, 1, 9, dtype=torch.bool)
    mask[0, ..., 2] = mask[1, ..., 7:] = False
    for options in ({}, {"mask": mask}, {"lengths": torch.tensor([9, 4])}, {"scale": 0.3}):
        weights = given.weights(q, k, **options)
        assert weights.shape == (BATCH, HEADS, 7, 9)
        out = given(q, k, v, **options)
        assert close(out, reference.apply(weights, v))
        both = given.with_weights(q, k, v, **options)
        assert close(both[0], out)
        assert close(both[1], weights)
        if "mask" in options:
            assert not weights[0, :, :, 2].any()
        if "scale" in options:
            # Relu of twice a vector is twice relu of it, which cancels.
            homogeneous = isinstance(given, Linear) and given.feature_map.name == "relu"
            assert close(out, given(q, k, v), 1e-3) is homogeneous


@pytest.mark.parametrize("given", EVERY, ids=repr)
def test_with_lengths_the_rows_beyond_are_0(given: Mechanism) -> None:
    given = learned(given)
    q, k, v = heads(9)
    lengths = torch.tensor([9, 4])
    out = given(q, k, v, lengths=lengths)
    assert not out[1, :, 4:].any()
    alone = given(q[1:, :, :4], k[1:, :, :4], v[1:, :, :4])
    # The singular vectors of a low-rank approximation are those of a random start: of another one for 4 keys.
    assert close(out[1:, :, :4], alone, 1e-3 if isinstance(given, LowRank) else 1e-10)


@pytest.mark.parametrize("given", EVERY, ids=repr)
def test_what_it_says_that_it_cannot_do_it_refuses_and_the_rest_it_does(given: Mechanism) -> None:
    given = learned(given)
    q, k, v = heads(9)
    keys, pairs = torch.ones(1, 1, 1, 9).bool(), torch.ones(9, 9).tril().bool()[None, None]
    for options in (
        {"causal": True},
        {"mask": keys},
        {"mask": keys.double()},
        {"mask": pairs},
        {"causal": True, "mask": keys},
    ):
        reason = given.supports(n=9, m=9, **options)  # type: ignore[arg-type]
        if reason is None:
            assert given(q, k, v, **options).shape == (BATCH, HEADS, 9, 5)
        else:
            assert "\n" not in reason
            with pytest.raises(UserError):
                given(q, k, v, **options)


def test_what_each_can_do() -> None:
    keys, pairs = torch.ones(1, 1, 1, 9).bool(), torch.ones(1, 1, 9, 9).bool()
    asked: list[dict[str, Any]] = [
        {},
        {"causal": True},
        {"mask": keys},
        {"mask": keys.float()},
        {"mask": pairs},
        {"mask": pairs.float()},
    ]
    can = {
        type(given).__name__: [given.supports(n=9, m=9, **options) is None for options in asked]
        for given in EVERY
    }
    assert can == {
        "Softmax": [True, True, True, True, True, True],
        "Linear": [True, True, True, True, False, False],
        "Nystrom": [True, False, True, False, False, False],
        "LowRank": [True, False, True, False, False, False],
        "Linformer": [True, False, True, False, False, False],
    }
    assert "would tell its first tokens of its last" in (Nystrom().supports(causal=True) or "")
    assert "not 5 and 6" in (Softmax().supports(causal=True, n=5, m=6) or "")
    assert "at most 9 keys, not 10" in (Linformer(9, 4).supports(n=3, m=10) or "")


@pytest.mark.parametrize("given", [Softmax(), Linear()], ids=repr)
def test_causal_weights_are_lower_triangular(given: Mechanism) -> None:
    q, k, v = heads(9)
    weights = given.weights(q, k, causal=True)
    assert not weights.triu(1).any()
    assert weights.diagonal(dim1=-2, dim2=-1).min() > 0
    assert close(given(q, k, v, causal=True), reference.apply(weights, v))


def test_linear_weights_by_definition_and_scaled_as_softmax_is() -> None:
    q, k, _ = heads()
    assert torch.equal(Linear().weights(q, k), reference.linear_weights(q, k, EluPlusOne()))
    assert torch.equal(Linear().weights(q, k, scale=1 / math.sqrt(SIZE)), Linear().weights(q, k))
    assert close(Linear().weights(q, k, scale=2 / math.sqrt(SIZE)), Linear().weights(2 * q, k))
    # Random features estimate the softmax of that scale.
    features = Linear("random", head_size=SIZE, features=20_000, seed=1).double()
    found = features.weights(q / 4, k / 4, scale=1.0)
    assert close(found, Softmax().weights(q / 4, k / 4, scale=1.0), 0.005)
    assert not close(found, Softmax().weights(q / 4, k / 4), 0.01)


@pytest.mark.parametrize("given", [Nystrom(9), LowRank(7), Linformer(9, 9)], ids=repr)
def test_at_full_rank_it_is_softmax(given: Mechanism) -> None:
    q, k, v = heads(9 if isinstance(given, Nystrom) else 7)
    given.double()
    assert close(given(q, k, v), Softmax()(q, k, v), 1e-9)


def test_linformer_uses_the_first_columns_for_shorter_sequences() -> None:
    given = learned(Linformer(9, 4))
    q, k, v = heads(m=5)
    c, d = given.key_projection[:, :5], given.value_projection[:, :5]
    weights = (q @ (c @ k).repeat_interleave(2, 1).transpose(-1, -2) / math.sqrt(SIZE)).softmax(-1)
    assert close(given(q, k, v), weights @ (d @ v).repeat_interleave(2, 1))
    with pytest.raises(UserError, match="at most 9 keys, not 10; make it with a larger length"):
        given(*heads(m=10))


def test_linformer_keeps_values_that_are_all_the_same() -> None:
    given = Linformer(9, 4).double()
    q, k, v = heads()
    expected = torch.full((BATCH, HEADS, 7, 5), 3.0, dtype=torch.float64)
    assert close(given(q, k, torch.full_like(v, 3.0)), expected, 1e-6)
    assert torch.equal(given.key_projection.count_nonzero(1), torch.tensor([3, 2, 2, 2]))


def test_only_what_is_learnable_has_parameters() -> None:
    def names(given: Mechanism) -> list[str]:
        return sorted(name for name, _ in given.named_parameters())

    assert [names(given) for given in EVERY[:4]] == [[]] * 4
    assert names(EVERY[4]) == ["feature_map.key_weight", "feature_map.query_weight"]
    assert names(EVERY[7]) == ["key_projection", "value_projection"]
    assert EVERY[7].key_projection.shape == (4, 9)
    assert EVERY[8].key_projection.shape == (KV_HEADS, 4, 9)
    for given in (EVERY[4], *EVERY[7:]):
        given = learned(given)
        given(*heads()).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in given.parameters())


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("softmax", Softmax, "Softmax()"),
        ("linear", Linear, "Linear('elu')"),
        ("linear-relu", Linear, "Linear('relu')"),
        ("linear-random", Linear, "directions"),
        ("hedgehog", Linear, "Hedgehog"),
        ("nystrom", Nystrom, "Nystrom(landmarks=64)"),
        ("low-rank", LowRank, "LowRank(rank=32)"),
        ("linformer", Linformer, "Linformer(length=9, rank=9)"),
    ],
)
def test_names(name: str, kind: type[Mechanism], text: str) -> None:
    given = mechanism(name, heads=HEADS, head_size=SIZE, kv_heads=KV_HEADS, length=9, seed=3)
    assert type(given) is kind
    assert text in repr(given) + " ".join(given.state_dict())
    assert mechanism(given) is given
    assert given.double()(*heads()).shape == (BATCH, HEADS, 7, 5)
    assert name in mechanisms.NAMES


def test_sizes_and_seeds_arrive() -> None:
    def directions(seed: int) -> Tensor:
        return mechanism("linear-random", head_size=SIZE, seed=seed).state_dict()["feature_map.directions"]

    assert not torch.equal(directions(0), directions(1))
    assert directions(0).shape[1] == SIZE
    low_rank, hedgehog = (
        mechanism("low-rank", seed=5),
        mechanism("hedgehog", heads=4, head_size=3, kv_heads=2),
    )
    assert isinstance(low_rank, LowRank)
    assert low_rank.seed == 5
    assert isinstance(hedgehog, Linear)
    assert isinstance(hedgehog.feature_map, Hedgehog)
    assert len(hedgehog.feature_map.query_weight) == 4
    assert len(hedgehog.feature_map.key_weight) == 2
    assert str(mechanism("linformer", length=1000)) == "Linformer(length=1000, rank=64)"
    assert str(Linformer(8, 2, heads=3)) == "Linformer(length=8, rank=2, heads=3)"
    assert str(Nystrom(8, 6)) == "Nystrom(landmarks=8, pinv_iterations=6)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mechanism("quadratic"), "expected a Mechanism or one of softmax, linear,"),
        (lambda: mechanism(nn.Linear(1, 1)), "got Linear"),  # type: ignore[arg-type]
        (lambda: mechanism("linformer"), "give length="),
        (lambda: mechanism("hedgehog"), "give head_size="),
        (lambda: Nystrom(0), "expected landmarks as a whole number of at least 1, got 0"),
        (lambda: Nystrom(2, 0), "expected pinv_iterations"),
        (lambda: LowRank(1.5), "expected rank as a whole number of at least 1, got 1.5"),  # type: ignore[arg-type]
        (lambda: LowRank(1, oversampling=-1), "oversampling"),
        (lambda: Linformer(4, 5), "expected a rank of at most the length 4, got 5"),
        (lambda: Linformer(4, 2, heads=0), "expected heads as a whole number"),
        (lambda: Linformer(4, 2)(*heads(m=4), causal=True), "linformer attention cannot be causal"),
        (lambda: Nystrom(2).decode(*heads()), "nystrom attention has no state of constant size"),
    ],
)
def test_wrong_choices_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value)
