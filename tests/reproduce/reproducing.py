"""What the tests of the reproduction share: a display that remembers, tiny models, a page's words."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from layerlab.graph import experiments, runs
from layerlab.reproduce import Amount, Step

COURSE_CELLS, PUBLIC_CELLS = 2 * 2, 4 * 2
TWO = Amount(seeds=2, trainings=2)


@contextmanager
def quickly() -> Iterator[None]:
    """Two epochs for every model instead of hundreds."""
    original = experiments.settings_for

    def settings_for(model: str, protocol: str, dataset: str) -> Any:
        return replace(original(model, protocol, dataset), epochs=2, heads=2, hidden=2)

    with pytest.MonkeyPatch.context() as patch:
        for module in (experiments, runs):
            patch.setattr(module, "settings_for", settings_for)
        yield


@dataclass
class Shown:
    """A display that remembers, and presses Ctrl-C after some cells."""

    stop_after: int = 10**9
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    cells: list[tuple[str, int]] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @contextmanager
    def plan(self, steps: Sequence[Step], jobs: int) -> Iterator[Callable[[str, dict[str, Any]], None]]:
        self.steps = [(step.title, len(step.seconds), step.seeds) for step in steps]

        def report(title: str, cell: dict[str, Any]) -> None:
            assert title in {step.title for step in steps}
            if title == "claims":
                self.checked.append(cell["contestant"])
                return
            self.cells.append((cell["contestant"], cell["seed"]))
            if len(self.cells) == self.stop_after:
                raise KeyboardInterrupt

        yield report


def words(page: str) -> str:
    """The text of a page, without markup."""
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
