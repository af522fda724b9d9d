"""Measures of heads, against plain computations on whole weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from layerlab.attention import measures
from layerlab.attention.calls import AttentionCall
from layerlab.attention.inspection import heads as module
from layerlab.attention.inspection.heads import SiteHeads, measure_heads


def call(
    batch: int = 2,
    heads: int = 4,
    n: int = 9,
    m: int | None = None,
    kv_heads: int | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **given: Any,
) -> AttentionCall:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    m, kv_heads = m or n, kv_heads or heads
    q, k, v = draw(batch, heads, n, 5), draw(batch, kv_heads, m, 5), draw(batch, kv_heads, m, 3)
    options = {"mask": None, "causal": False, "scale": 1.0, "dropout": 0.0, **given}
    return AttentionCall("s", "s", "S", 0, "", q, k, v, compute=lambda: v, **options)


def dense(made: AttentionCall, example: int, head: int) -> tuple[Tensor, Tensor]:
    """P and V of one head, written out."""
    group = made.heads // made.k.shape[1]
    q, k, v = made.q[example, head], made.k[example, head // group], made.v[example, head // group]
    scores = made.scale * (q.double() @ k.double().T)
    if made.causal:
        scores = scores.masked_fill(torch.ones_like(scores).tril() == 0, -math.inf)
    if made.mask is not None:
        mask = made.mask.expand(made.q.shape[0], made.heads, *scores.shape)[example, head]
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1), v.double()


def check(site: SiteHeads, made: AttentionCall, example: int, tolerance: float = 1e-6) -> None:
    """Everything measured of one example."""
    for head in range(made.heads):
        p, v = dense(made, example, head)
        seen = p > 0
        several = seen.sum(-1) > 1
        spread = -(p * p.clamp(min=1e-300).log()).sum(-1)
        expected = {
            "entropy": spread.mean(),
            "entropy_share": (spread[several] / seen.sum(-1)[several].log()).mean(),
            "sink": p[:, 0].mean(),
            "uniform_sink": (seen[:, 0] / seen.sum(-1)).mean(),
            "effective_rank": measures.effective_rank(torch.linalg.svdvals(p)),
            "rank": measures.numerical_rank(torch.linalg.svdvals(p)),
        }
        if p.shape[0] == p.shape[1]:
            apart = (torch.arange(len(p))[:, None] - torch.arange(len(p))).abs()
            expected["distance"] = (p * apart).sum(-1).mean()
            expected["near"] = (p * (apart <= module.WINDOW)).sum(-1).mean()
            expected["uniform_distance"] = ((seen / seen.sum(-1, keepdim=True)) * apart).sum(-1).mean()
        for name, value in expected.items():
            assert site.values[name][head][example] == pytest.approx(float(value), rel=tolerance), name
        floors = measures.output_floor(p, v, site.ranks)
        assert site.output_floors[head][example] == pytest.approx(floors.tolist(), rel=1e-3, abs=1e-5)


def drawn_mask(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"causal": True},
        {"kv_heads": 2},
        {"m": 12},
        {"scale": 0.3},
        {"mask": drawn_mask(2, 1, 9, 9)},
        {"mask": (drawn_mask(1, 4, 9, 9) < 0.7) | torch.eye(9, dtype=torch.bool)},
    ],
    ids=["plain", "causal", "grouped", "cross", "scale", "float mask", "bool mask"],
)
@pytest.mark.parametrize("block", [1 << 24, 40])
def test_measures_are_those_of_the_whole_weights(
    given: dict[str, Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    made = call(**{**given, "n": 14} if given == {} else given)
    (site,), notes = measure_heads([made])
    assert site.examples == 2 and notes == []
    for example in range(2):
        check(site, made, example)


def test_long_sequences_take_few_singular_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALL_VECTORS", 8)
    made = call(heads=1, n=200, dtype=torch.float32)
    (site,), _ = measure_heads([made])
    p, v = dense(made, 0, 0)
    found = site.output_floors[0][0]
    assert math.isnan(found[-1]) and site.ranks[-1] == 128
    expected = measures.output_floor(p, v, site.ranks[:-1]).tolist()
    assert found[:-1] == pytest.approx(expected, rel=0.02)
    assert site.values["rank"][0][0] == int(measures.numerical_rank(torch.linalg.svdvals(p)))


def test_padding_takes_no_part() -> None:
    whole = call(batch=1, n=9)
    short = call(batch=1, n=9, mask=(torch.arange(9) < 6)[None, None, None, :])
    (padded,), _ = measure_heads([short])
    q, k, v = (tensor[:, :, :6] for tensor in (whole.q, whole.k, whole.v))
    cut = AttentionCall("s", "s", "S", 0, "", q, k, v, None, False, 1.0, 0.0, lambda: v)
    (own,), _ = measure_heads([cut])
    for name, values in own.values.items():
        assert padded.values[name] == values, name


def test_half_precision_is_measured_in_single() -> None:
    made = call(dtype=torch.bfloat16)
    (site,), _ = measure_heads([made])
    check(site, made, 0, tolerance=1e-3)


def test_a_spent_budget_leaves_the_ranks_out_and_says_so() -> None:
    (first, second), notes = measure_heads([call(), call(seed=1)], seconds=0.0)
    assert first.examples == second.examples == 1
    assert all(len(values) == 1 for values in second.values["entropy"])
    assert first.to_dict(0)["rank"] is None and first.to_dict(0)["floor"] is None
    assert notes == [
        "singular values of 0 of 8 heads in the 0 s given to them (--budget)",
        "heads are measured on 1 of 2 examples (0 s)",
    ]


def test_a_head_that_would_take_too_long_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALL_VECTORS", 8)
    monkeypatch.setattr(module, "_SMALL", 9)
    monkeypatch.setattr(module, "_of_small", lambda: 10.0)
    # Four heads at once, of 10 s each.
    for seconds, measured in ((39.0, 0), (45.0, 1)):
        (site,), _ = measure_heads([call()], seconds=seconds, examples=1)
        assert len(site.values["rank"][0]) == measured


def test_few_examples_of_many_are_spread_over_the_batch() -> None:
    made = call(batch=6)
    (site,), notes = measure_heads([made], examples=3)
    assert notes == ["heads are measured on 3 of 6 examples (at most 3)"]
    for turn, example in enumerate((0, 2, 4)):
        p, _ = dense(made, example, 0)
        assert site.values["sink"][0][turn] == pytest.approx(float(p[:, 0].mean()))


def test_very_long_sequences_have_no_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SPECTRUM", 8)
    (site,), notes = measure_heads([call()])
    assert notes == ["sequences of more than 8 tokens: no singular values of 4 heads"]
    assert site.to_dict(0)["rank"] is None and site.to_dict(0)["entropy"] is not None


def test_means_and_deviations_are_of_the_examples() -> None:
    (site,), _ = measure_heads([call()])
    found, values = site.to_dict(1), site.values["rank"][1]
    assert found["rank"]["mean"] == pytest.approx(sum(values) / 2)
    assert found["rank"]["sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert found["decay"][0] == 1.0 and len(found["decay"]) == len(site.indices)
    assert site.ranks == (1, 2, 4, 8) and site.indices[-1] == 9
