"""A user's words on a page, as they are."""

from __future__ import annotations

_MARKS = str.maketrans({"*": "∗", "`": "ʼ", "[": "［", "]": "］"})


def plain(words: str) -> str:
    """``words``, `unbroken`, in which nothing is a mark of `layerlab.lab.report.page`: its like stands in its place.

    >>> plain("a*b*c of [here](#top)")
    'a∗b∗c of ［here］(#top)'
    """
    return unbroken(words).translate(_MARKS)


def unbroken(words: str) -> str:
    """``words`` in which no number parts from its per cent at the end of a line.

    >>> unbroken("5 % of")
    '5\\xa0% of'
    """
    return words.replace(" %", "\u00a0%")
