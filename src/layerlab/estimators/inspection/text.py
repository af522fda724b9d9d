"""The numbers of an inspection as people read them: what its table in the terminal and its page share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

COLUMNS = (
    "estimator",
    "variance",
    "relative",
    "signal/noise",
    "bias",
    "z (limit)",
    "calls",
    "own time",
    "how",
)

LEGEND = {
    "estimator": "Known: with the baseline known beforehand.",
    "variance": "Variance: of one estimate, summed over the coordinates.",
    "relative": "Relative: to the variance of reinforce.",
    "signal/noise": "Signal/noise: length of the gradient by the root of the variance.",
    "bias": "Bias: its length, relative to the gradient's.",
    "z (limit)": "z: the largest of all coordinates, over repetitions fixed beforehand.",
    "calls": "Calls: of f for each draw.",
    "own time": "Own time: of an estimate, beyond f.",
}
"""What the columns are."""


def title(record: Record) -> str:
    """What was looked at, at which parameters, and how."""
    where = (
        f"{record['sampled']} random parameters (medians, range in brackets)"
        if record["sampled"] is not None
        else record["where"]
    )
    return (
        f"{record['subject']}: {record['space']['words']}, {where}; variance at {record['samples']:,} "
        f"evaluation{'' if record['samples'] == 1 else 's'} an estimate"
    )


def row(entry: Record, record: Record) -> list[str]:
    """The cells of one estimator, as `COLUMNS` names them."""
    return [
        name(entry),
        spread(entry["variance"], entry["low"], entry["high"], entry["how"] == "measured"),
        against(entry, record),
        signal(entry, record),
        bias(entry, record),
        test(entry),
        str(entry["cost"]),
        duration(entry["overhead_seconds"]),
        how(entry),
    ]


def name(entry: Record) -> str:
    """With what sets it apart.

    >>> name({"name": "evolution, ranks", "biased": True, "everywhere": False})
    'evolution, ranks, BIASED, gradient of the means only'
    """
    found = f"{entry['name']}, BIASED" if entry["biased"] else str(entry["name"])
    return found if entry["everywhere"] else f"{found}, gradient of the means only"


def how(entry: Record) -> str:
    """Where the variance is from."""
    return f"{entry['bias']['repetitions']:,} times" if entry["how"] == "measured" else entry["how"]


def number(value: float | None) -> str:
    """Three digits.

    >>> number(0.012345), number(0.0), number(None), number(12345.6)
    ('0.0123', '0', '–', '12,300')
    """
    if value is None or value != value:
        return "–"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 1e6:
        return f"{value:.2e}"
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"


def spread(value: float, low: float, high: float, measured: bool) -> str:
    """A figure, with half the width of its interval where it has one.

    >>> spread(2.0, 1.9, 2.1, True), spread(2.0, 2.0, 2.0, False)
    ('2 ± 0.1', '2')
    """
    if not measured or high == low:
        return number(value)
    return f"{number(value)} ± {(high - low) / 2:.1g}"


def against(entry: Record, record: Record) -> str:
    """The variance relative to plain REINFORCE's."""
    if entry["ratio"] is None:
        return "∞"
    if record["sampled"] not in (None, 1):
        return f"{number(entry['ratio'])} [{number(entry['ratio_low'])}, {number(entry['ratio_high'])}]"
    return spread(entry["ratio"], entry["ratio_low"], entry["ratio_high"], entry["how"] == "measured")


def signal(entry: Record, record: Record) -> str:
    """Signal to noise."""
    if record["gradient"]["zero"]:
        return "0" if entry["variance"] else "–"
    if entry["variance"]:
        return number(entry["signal_to_noise"])
    return "∞" if entry["signal"] else "–"


def bias(entry: Record, record: Record) -> str:
    """Exact where it is known, measured for those that have one, and for the others whether any was seen."""
    found, length = entry["bias"], record["gradient"]["length"]
    if entry["scaled"]:
        return "rescaled"
    if not entry["biased"]:
        return "none" if found["passed"] else "SEEN"
    exact = found["exact"] is not None
    value = found["exact"] if exact else found["measured"]
    if value == 0:
        return "0 here"
    if record["gradient"]["zero"] or not length:
        return f"{'' if exact else '≈ '}{number(value)} (absolute)"
    if not exact and found["passed"]:
        return "not seen"
    return f"{'' if exact else '≈ '}{number(value / length)}"


def test(entry: Record) -> str:
    """The test of bias, with a mark where it fails."""
    found = entry["bias"]
    z = "∞" if found["z"] is None or found["z"] == float("inf") else f"{found['z']:.1f}"
    return f"{z} ({found['limit']:.1f}){'' if found['passed'] else ' ✗'}"


def duration(seconds: float) -> str:
    """A time with two digits, in a unit that suits it.

    >>> duration(0.00025), duration(0.0123), duration(2.0)
    ('250 µs', '12 ms', '2 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def facts(record: Record) -> list[str]:
    """What was found about f itself, a sentence each."""
    f, gradient = record["f"], record["gradient"]
    values = (
        f"{record['space']['outcomes']:,} outcomes, each evaluated once"
        if record["enumerated"]
        else f"{record['evaluations']:,} evaluations"
    )
    # Of one that is 0, rounding is left.
    length = 0.0 if gradient["zero"] and gradient["exact"] else gradient["length"]
    return [
        f"f: mean {number(f['mean'])}, standard deviation {number(f['deviation'])}; {values}; "
        f"{duration(record['f_seconds'])} each in batches, {duration(record['f_seconds'] * record['samples'])} for one "
        "estimate",
        f"gradient: length {number(length)} ({'exact' if gradient['exact'] else 'measured'}); best "
        f"constant baseline {number(f['best_baseline'])}",
    ]


def refused(record: Record) -> dict[str, list[str]]:
    """Estimators that do not apply, by the reason."""
    reasons: dict[str, list[str]] = {}
    for entry in record["not_applicable"]:
        reasons.setdefault(entry["why"], []).append(entry["name"])
    return reasons


def verdict(record: Record) -> str:
    """The recommendation, a sentence without its full stop."""
    found = record["recommendation"]
    return f"take {found['name']}: {found['reason']}"
