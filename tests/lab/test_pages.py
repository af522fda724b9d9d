"""Large results in huge pages."""

from __future__ import annotations

import pytest
import torch

from layerlab.lab.kernels import pages


def test_advice_covers_whole_pages_of_large_tensors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(pages, "_advise", lambda: lambda start, length: calls.append((start, length)))
    like = torch.ones(1, dtype=torch.float64)
    assert pages.empty(like, 3, 4).shape == (3, 4)
    assert calls == []
    large = pages.empty(like, 1 << 20)
    ((start, length),) = calls
    assert large.dtype is torch.float64
    assert start % 4096 == length % 4096 == 0
    assert large.data_ptr() <= start < large.data_ptr() + 4096
    assert large.data_ptr() + large.nbytes - 4096 < start + length <= large.data_ptr() + large.nbytes


def test_large_tensors_are_ordinary_memory() -> None:
    x = pages.empty(torch.ones(1), 1 << 21)
    x.fill_(1.0)
    assert float(x.sum()) == 2**21
    assert x.untyped_storage().resizable()


def test_a_system_without_advice_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.sys, "platform", "somewhere")
    pages._advise.cache_clear()
    try:
        assert pages._advise() is None
        assert pages.empty(torch.ones(1), 1 << 21).shape == (1 << 21,)
    finally:
        pages._advise.cache_clear()
