"""Masks: torch's layers' convention, unions, and the plainest way to say one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from layerlab.attention import masks
from layerlab.errors import UserError

Q = torch.zeros(2, 3, 4, 5)
K = torch.zeros(2, 1, 6, 5)


def test_true_hides_in_a_layer_and_takes_part_in_ours() -> None:
    padding = torch.tensor([[False] * 5 + [True], [True] + [False] * 5])
    keys, pairs = masks.from_layers(padding, None, Q, K)
    assert pairs is None
    assert keys is not None
    assert torch.equal(keys, ~padding[:, None, None])


def test_masks_over_pairs_come_for_all_or_for_each_batch_and_head() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(4, 6, generator=generator) > 0.5
    each = torch.rand(6, 4, 6, generator=generator)
    _, pairs = masks.from_layers(None, one, Q, K)
    assert pairs is not None
    assert torch.equal(pairs, ~one[None, None])
    _, pairs = masks.from_layers(None, each, Q, K)
    assert pairs is not None
    assert pairs.shape == (2, 3, 4, 6)
    assert torch.equal(pairs[1, 2], each[5])


def test_float_masks_get_the_dtype_of_the_queries() -> None:
    keys, pairs = masks.from_layers(torch.zeros(2, 6), torch.zeros(4, 6), Q.double(), K.double())
    assert keys is not None
    assert pairs is not None
    assert keys.dtype is pairs.dtype is torch.float64


@pytest.mark.parametrize(
    ("padding", "pairs", "message"),
    [
        (torch.zeros(2, 5), None, "key_padding_mask of shape (2, 6), got (2, 5)"),
        (torch.zeros(2, 6, dtype=torch.int64), None, "bool (True hides) or float"),
        (None, torch.zeros(6, 4), "attn_mask of shape (4, 6) or (6, 4, 6), got (6, 4)"),
        (None, torch.zeros(2, 4, 6), "attn_mask of shape (4, 6) or (6, 4, 6), got (2, 4, 6)"),
        (None, "causal", "float (added to the scores), got str"),
        (torch.zeros(2, 6, device="meta"), None, "on cpu, where the query is, got one on meta"),
    ],
)
def test_masks_that_do_not_fit_are_refused(padding: Tensor, pairs: Tensor, message: str) -> None:
    with pytest.raises(UserError) as caught:
        masks.from_layers(padding, pairs, Q, K)
    assert message in str(caught.value)


def test_two_masks_become_one() -> None:
    keep = torch.tensor([True, False, True])
    other = torch.tensor([True, True, False])
    added = torch.tensor([0.5, 1.0, 2.0])
    assert masks.both(None, None) is None
    assert masks.both(keep, None) is keep
    assert masks.both(None, added) is added
    assert torch.equal(masks.both(keep, other), keep & other)  # type: ignore[arg-type]
    expected = torch.tensor([0.5, -math.inf, 2.0])
    assert torch.equal(masks.both(keep, added), expected)  # type: ignore[arg-type]
    assert torch.equal(masks.both(added, keep), expected)  # type: ignore[arg-type]
    assert torch.equal(masks.both(added, added), 2 * added)  # type: ignore[arg-type]


def causal(n: int, m: int) -> Tensor:
    return torch.ones(1, 1, n, m).tril().bool()


HIDDEN = torch.tensor([True, True, False, True])[None, None, None]


@pytest.mark.parametrize("least", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize(
    ("mask", "said", "left", "now"),
    [
        (torch.ones(1, 1, 4, 4).bool(), False, None, False),
        (torch.ones(1, 1, 1, 4).bool(), False, None, False),
        (HIDDEN, False, HIDDEN, False),
        (HIDDEN, True, HIDDEN, True),
        (HIDDEN.expand(2, 3, 4, 4), False, HIDDEN.expand(2, 3, 1, 4), False),
        (causal(4, 4), False, None, True),
        (causal(4, 4), True, None, True),
        (causal(4, 4) & HIDDEN, False, HIDDEN, True),
        (causal(4, 4) & HIDDEN, True, HIDDEN, True),
        (~causal(4, 4), False, ~causal(4, 4), False),
        (causal(4, 4).flip(-1), False, causal(4, 4).flip(-1), False),
        (causal(4, 4) & causal(4, 4).flip(-1), False, causal(4, 4) & causal(4, 4).flip(-1), False),
        (causal(3, 4), False, causal(3, 4), False),
    ],
)
def test_a_mask_is_said_as_plainly_as_it_can_be(
    mask: Tensor, said: bool, left: Tensor | None, now: bool, as_float: bool, least: float
) -> None:
    n, m = (4 if mask.shape[-2] == 1 else mask.shape[-2]), mask.shape[-1]
    given = torch.zeros(mask.shape).masked_fill(~mask, least) if as_float else mask
    found, is_causal = masks.plain(given, said, n, m)
    assert is_causal is now
    if left is None:
        assert found is None
    else:
        assert found is not None
        assert torch.equal(found, left)


def test_what_is_left_means_what_the_mask_meant() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        n, m = (int(torch.randint(1, 4, (), generator=generator)) for _ in range(2))
        mask = torch.rand(1, 2, n, m, generator=generator) > 0.3
        said = bool(torch.rand((), generator=generator) > 0.5) and n == m
        found, is_causal = masks.plain(mask, said, n, m)
        meant = mask & causal(n, m) if said else mask
        got = torch.ones(1, 2, n, m).bool() if found is None else found.expand(1, 2, n, m)
        assert torch.equal(got & causal(n, m) if is_causal else got, meant)


def test_a_mask_that_adds_stays_what_it_is() -> None:
    added = torch.full((1, 1, 2, 2), 0.5)
    assert masks.plain(added, True, 2, 2) == (added, True)
    assert masks.plain(None, True, 2, 2) == (None, True)
