"""Made ahead: in order, a bounded number, errors where they are wanted, no thread left behind."""

from __future__ import annotations

import threading
import time

import pytest

from layerlab.graph.sampling.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("layerlab-ahead")]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_results_come_in_order(depth: int, workers: int) -> None:
    def make(i: int) -> int:
        time.sleep(0.001 * (i % 3))
        return i

    assert list(ahead(make, 10, depth=depth, workers=workers)) == list(range(10))
    assert not threads()


def test_no_more_than_asked_for_are_made_ahead() -> None:
    made: list[int] = []
    results = ahead(lambda i: made.append(i) or i, 10, depth=3)  # type: ignore[func-returns-value]
    assert next(results) == 0
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    results.close()


def test_they_are_made_while_the_caller_works() -> None:
    second = threading.Event()
    results = ahead(lambda i: second.set() if i else None, 2, depth=1)
    next(results)
    assert second.wait(5)
    assert list(results) == [None]


def test_an_error_is_raised_where_its_result_was_wanted() -> None:
    def make(i: int) -> int:
        if i == 2:
            raise ValueError("broken")
        return i

    results = ahead(make, 9, depth=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(results)
    assert not threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_caller_that_stops_leaves_no_thread(error: type[BaseException]) -> None:
    made: list[int] = []

    def use() -> None:
        for _ in ahead(lambda i: made.append(i), 100, depth=2):
            raise error

    with pytest.raises(error):
        use()
    assert not threads()
    assert len(made) < 10


def test_nothing_is_nothing() -> None:
    assert list(ahead(lambda i: i, 0, depth=2)) == []
