"""Whether a page shows what a command prints now: the same words and counts, numbers as another machine has them."""

from __future__ import annotations

import re
from itertools import zip_longest

# Times differ from run to run, and the epoch that was best may be another on another machine. A path's digits belong
# to its word.
TIME = re.compile(r"[\d.,]+ (?:ms|s|min)\b|epoch \d+ of")
NUMBER = re.compile(r"(?<![\w/])[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
FRAME = re.compile(r"[─-╿]+")
TIMED_COLUMN = re.compile(r"ms/epoch|total s")


def difference(shown: str, printed: str, relative: float = 0.1, absolute: float = 0.05) -> str:
    """The first difference in words, whole numbers, or others beyond both tolerances; empty where there is none."""
    if TIMED_COLUMN.search(shown):
        shown, printed = _without_times(shown), _without_times(printed)
    pairs = zip_longest(_words(shown), _words(printed), fillvalue="(nothing)")
    for place, (ours, theirs) in enumerate(pairs):
        expected, found = NUMBER.findall(ours), NUMBER.findall(theirs)
        near = len(expected) == len(found) and all(
            one == other if _counts(one) and "%" not in ours else _near(one, other, relative, absolute)
            for one, other in zip(expected, found, strict=True)
        )
        if not near or NUMBER.sub("#", ours) != NUMBER.sub("#", theirs):
            return f"word {place + 1}: the page shows {ours!r}, now it is {theirs!r}"
    return ""


def _without_times(text: str) -> str:
    """A race's table without its last two columns, which are times."""
    return "\n".join(line.rsplit("│", 3)[0] if line.count("│") > 7 else line for line in text.splitlines())


def _words(text: str) -> list[str]:
    return FRAME.sub(" ", TIME.sub("", text)).split()


def _counts(number: str) -> bool:
    """Whether it is a whole number, which counts something."""
    return number.replace(",", "").isdigit()


def _near(expected: str, found: str, relative: float, absolute: float) -> bool:
    ours, theirs = (float(number.replace(",", "").replace("−", "-")) for number in (expected, found))
    return abs(ours - theirs) <= max(absolute, relative * abs(ours))
