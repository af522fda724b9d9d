"""The advice, case by case."""

from __future__ import annotations

import pytest

from layerlab.attention.inspection.ranking import Candidate, advise, ranked

IMPOSSIBLE = Candidate("nystrom", "nystrom attention cannot be causal")
GOOD = Candidate("linear", None, 0.1, 0.01, 3.0, 500, 4096)
BETTER = Candidate("hedgehog", None, 0.1, 0.002, 2.0, 700, 4096)
SLOW = Candidate("linear", None, 0.1, 0.01, 0.25, 500, 4096)
NEVER = Candidate("linear-relu", None, 0.1, 0.001, 0.5, None, 4096)
WRONG = Candidate("linear", None, 0.9, 0.4, 3.0, 500, 4096)
WRONG_AND_SLOW = Candidate("linear", None, 0.9, 0.4, 0.3, 500, 4096)
UNKNOWN = Candidate("linear", None, None, None, 3.0, 500, 4096)
UNTIMED = Candidate("linear", None, 0.1, 0.01)


@pytest.mark.parametrize(
    ("candidates", "standing", "mechanism", "words"),
    [
        (
            [IMPOSSIBLE, GOOD, BETTER],
            "replace",
            "hedgehog",
            "predicted error 0.2 %, 2 times as fast at 64 tokens",
        ),
        ([GOOD, NEVER], "replace", "linear", "predicted error 1 %, 3 times as fast"),
        (
            [SLOW, NEVER],
            "too short",
            "linear",
            "linear is slower (0.25 times as fast); it pays from about 500 on",
        ),
        (
            [NEVER],
            "too short",
            "linear-relu",
            "is slower (0.5 times as fast), and up to 4,096; predicted error",
        ),
        ([UNTIMED], "too short", "linear", "linear was not timed"),
        ([WRONG], "too far off", "linear", "the least predicted error is 40 % (linear), above 2 %"),
        ([WRONG_AND_SLOW], "too far off", "linear", "above 2 %; at 64 tokens it is slower, too"),
        ([UNKNOWN], "not predicted", "linear", "could not be predicted"),
        ([IMPOSSIBLE], "not possible", None, "nystrom attention cannot be causal"),
    ],
)
def test_advice(candidates: list[Candidate], standing: str, mechanism: str | None, words: str) -> None:
    made = advise("layer", 64, candidates, 0.02)
    assert (made.standing, made.mechanism) == (standing, mechanism)
    assert words in made.sentence
    assert made.sentence.startswith("replace by" if standing == "replace" else "keep softmax: ")


def test_the_best_replaced_come_first() -> None:
    tried = [[IMPOSSIBLE], [WRONG], [GOOD], [SLOW], [BETTER], [UNKNOWN]]
    made = [advise(str(i), 64, candidates, 0.02) for i, candidates in enumerate(tried)]
    assert ranked(made, tried) == [4, 2, 3, 1, 5, 0]
