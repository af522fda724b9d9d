"""What is known of a function: its values so far, which samples failed, and whether it is deterministic."""

from __future__ import annotations

from collections.abc import Sequence

from layerlab.estimators.evaluation.log import Entry

_SAME = 1e-9  # relative


def same(one: float, other: float, scale: float = 0.0) -> bool:
    """Whether two values of a function differ by no more than sums in another order do.

    Args:
        one: a value.
        other: another one.
        scale: how large values of this function are.

    >>> same(0.1 + 0.2, 0.3), same(0.3, 0.300001), same(0.0, 1e-17), same(0.0, 1e-17, scale=1.0)
    (True, False, False, True)
    """
    return abs(one - other) <= _SAME * max(abs(one), abs(other), scale)


class Memory:
    """Values by sample.

    Args:
        maximise: which values are bad.

    >>> memory = Memory(maximise=True)
    >>> memory.asked(["a", "b", "a"], spare=3), memory.asked(["a", "b", "a"], spare=2)
    ([0, 1, 2], [0, 1])
    >>> memory.note(Entry(1, "a", 3.0, 0.1)), memory.answer("a"), memory.best()
    ('', 3.0, ('a', 3.0))
    """

    def __init__(self, maximise: bool) -> None:
        self.maximise = maximise
        self.deterministic = True
        """False from when a sample has had two different values."""
        self.worst: float | None = None
        """The worst value so far; None before there is one."""
        self.values: dict[str, tuple[float, int]] = {}
        """Sum and number of the values of each sample; of a deterministic function, of its first value."""
        self._scale = 0.0
        self._failures: set[str] = set()
        self._comebacks = 0
        self._best: tuple[str, float] | None = None

    def asked(self, keys: Sequence[str], spare: float) -> list[int]:
        """The rows to evaluate: what is new, or comes again and is evaluated to see whether f is deterministic.

        Args:
            keys: the samples of a batch.
            spare: how many evaluations there may be for such comparisons.
        """
        if not self.deterministic:
            return list(range(len(keys)))
        begun = bool(self.values or self._failures)
        new: list[int] = []
        again: list[int] = []
        seen: set[str] = set()
        for row, key in enumerate(keys):
            if key in self._failures:
                continue
            if key not in self.values and key not in seen:
                seen.add(key)
                new.append(row)
                continue
            self._comebacks += 1
            if self._comebacks & (self._comebacks - 1) == 0:
                again.append(row)
        if not begun and new and not again:
            again.append(new[0])
        return new + again[: max(0, int(min(spare - len(new), len(again))))]

    def note(self, entry: Entry) -> str:
        """Take in an evaluation.

        Returns:
            What shows that f is not deterministic, if this is the first such evaluation; else nothing.
        """
        key, value = entry.key, entry.value
        if value is None:
            if key not in self.values:
                self._failures.add(key)
            return ""
        if self.worst is None or self._better(self.worst, value):
            self.worst = value
        self._scale = max(self._scale, abs(value))
        if key not in self.values:
            self.values[key] = (value, 1)
            if self._best is None or self._better(value, self._best[1]):
                self._best = (key, value)
            return ""
        total, count = self.values[key]
        before, shown = total / count, ""
        if self.deterministic and not same(value, before, self._scale):
            self.deterministic = False
            shown = f"{before!r} and {value!r}"
        if not self.deterministic:
            self.values[key] = (total + value, count + 1)
            self._rank(key)
        return shown

    def answer(self, key: str) -> float:
        """The mean of the values of a sample; the worst value so far for one that failed."""
        if key in self.values:
            total, count = self.values[key]
            return total / count
        assert self.worst is not None
        return self.worst

    def knows(self, key: str) -> bool:
        """Whether this sample was evaluated, or tried to be."""
        return key in self.values or key in self._failures

    def leaders(self, count: int) -> list[str]:
        """The samples with the best means, best first."""
        return sorted(self.values, key=self.answer, reverse=self.maximise)[:count]

    def settle(self, keys: Sequence[str]) -> None:
        """Let only these samples be the best: the others' single values of a noisy function are luck."""
        chosen = (max if self.maximise else min)(keys, key=self.answer)
        self._best = (chosen, self.answer(chosen))

    def best(self) -> tuple[str, float] | None:
        """The sample with the best mean, and its mean; None before there is a value."""
        return self._best

    def _rank(self, key: str) -> None:
        mean = self.answer(key)
        if self._best is None or self._better(mean, self._best[1]):
            self._best = (key, mean)
        elif key == self._best[0] and mean != self._best[1]:
            # A noisy best that was lucky at first: another sample may be the best now.
            means = {other: total / count for other, (total, count) in self.values.items()}
            chosen = (max if self.maximise else min)(means, key=means.__getitem__)
            self._best = (chosen, means[chosen])

    def _better(self, one: float, other: float) -> bool:
        return one > other if self.maximise else one < other
