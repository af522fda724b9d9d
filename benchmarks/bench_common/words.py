"""Numbers and tables as the page writes them."""

from __future__ import annotations

from collections.abc import Sequence


def significant(value: float, digits: int = 3) -> str:
    """``value`` to so many digits, without an exponent.

    >>> significant(0.01234), significant(12.34), significant(12345.0), significant(99.96)
    ('0.0123', '12.3', '12,345', '100')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    before = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else 0
    if before >= digits:
        return f"{value:,.0f}"
    leading = 0
    while before == 0 and abs(rounded) * 10 ** (leading + 1) < 1:
        leading += 1
    return f"{rounded:.{digits - before + leading}f}"


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    for size, unit in units[:-1]:
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    size, unit = units[-1]
    return f"{significant(value / size)} {unit}"


def seconds(value: float) -> str:
    """
    >>> seconds(1.5), seconds(0.0021), seconds(0.0000123)
    ('1.50 s', '2.10 ms', '12.3 µs')
    """
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def size(value: float) -> str:
    """
    >>> size(6.2e9), size(512)
    ('6.20 GB', '512 B')
    """
    return _scaled(value, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")))


def many(value: float) -> str:
    """
    >>> many(2.33e6), many(147), many(0)
    ('2.33 M', '147', '0')
    """
    return _scaled(value, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))).rstrip()


def span(entry: dict[str, float]) -> str:
    """A ratio with its interval.

    >>> span({"ratio": 12.34, "low": 11.9, "high": 13.0})
    '12.3 [11.9, 13.0]'
    """
    return f"{significant(entry['ratio'])} [{significant(entry['low'])}, {significant(entry['high'])}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are right-aligned.

    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    |---|--:|
    | x | 1 |
    """
    lines = [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(['---', *['--:'] * (len(head) - 1)])}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines)
