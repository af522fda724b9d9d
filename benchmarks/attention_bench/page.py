"""docs/benchmarks-attention.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.sections import circumstances, of_parts, page, write_page

from attention_bench import figures, floors, gate, goals
from attention_bench.contestants import CHUNK, MODES, OURS, PLAIN, SOFTMAX

_HEAD = """\
# Attention benchmarks: the linear form against softmax

Written by `python benchmarks/attention.py --docs` from [the stored results](../benchmarks/results/attention.json);
`make bench` measures anew. The rules are those of [benchmarks/README.md](../benchmarks/README.md): nothing is timed
before outputs and gradients agree with dense float64 twins, times are paired within one process, and what is slower is
listed too. Batch 1, 8 heads of 64, float32 on both sides; the feature map is elu + 1. Linear and softmax attention are
different functions: what a swap does to a model's output is no part of this page.
"""

_RATIO = (
    "Medians of runs in turn (A B C A B C); ratios of medians with 95 per cent of a bootstrap over rounds."
)


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-attention.md`` and its figures into ``folder``."""
    drawn = figures.draw(stored["parts"])
    write_page(folder, "benchmarks-attention", render(stored, drawn), drawn)


def render(stored: dict[str, Any], drawn: dict[str, str]) -> str:
    """The page of what `bench_common.store.read` returns, with a link to each figure that there is."""
    parts = floors.at_best_rates(stored["parts"])
    table = goals.table(parts)
    figure = "![Times faster than torch's fused softmax](images/benchmarks-attention-ratios.svg)"
    sections = (
        ("forward", lambda part: _race("Forward", part)),
        ("training", lambda part: _race("Forward and backward", part)),
        ("forward", _floors),
        ("lengths", _lengths),
        ("decode", _decode),
        ("memory", _memory),
        ("long", _long),
        ("gate", _gate),
    )
    return page(
        _HEAD,
        stored,
        circumstances(parts, ("numba",)),
        table and table + "\n\n" + _HELD_AGAINST,
        figure if "benchmarks-attention-ratios" in drawn else "",
        *of_parts(parts, sections),
    )


_HELD_AGAINST = (
    "All ratios are against torch's fused softmax. The goals of forward passes were set when it took 3.10 s at n = "
    "16,384 over all keys; a causal pass is held against that and, the fairer peer, against it with "
    "`is_causal=True`, which leaves out half of the work. A token is held against the faster of torch's fused "
    "softmax and plain matrix products over the same cache."
)


def _race(title: str, part: dict[str, Any]) -> str:
    rows = []
    for mode, runners in part["modes"].items():
        for name, row in runners.items():
            floor = row["floor"]
            rows.append(
                [
                    f"{mode}, {name}",
                    words.seconds(row["median_seconds"]),
                    "" if name == OURS else words.span(row["times_slower_than_ours"]),
                    *_floor(floor),
                    words.significant(row["median_seconds"] / floor["seconds"]),
                ]
            )
    head = [
        "",
        "median",
        "times slower than layerlab",
        "memory",
        "products",
        "exponentials",
        "floor",
        "median / floor",
    ]
    return (
        f"## {title}, n = {part['n']:,}\n\n{_RATIO} The plain form sums over all keys first; causal it runs in "
        f"chunks of {CHUNK}, all at once.\n\n" + words.table(head, rows)
    )


def _floors(part: dict[str, Any]) -> str:
    floor = part["modes"]["causal"][OURS]["floor"]
    speed, rate, exps = (floor[f"{name}_per_second"] for name in ("bytes", "operations", "exponentials"))
    return (
        "## Floors\n\nThe least time for what must be done, in the tables above and below: q, k, v read and the result "
        "written once (forward and backward: eleven such arrays) at the bandwidth of an addition of the same "
        "footprint; the products of the form at the rate of a 1,024 x 1,024 float32 product; elu's exponentials, half "
        "of the numbers being negative, or the softmax's, at the rate of torch.exp in a cache. The floor is the larger "
        "of memory and of products plus exponentials. A causal form does more than is counted, the weights inside its "
        f"chunks. Rates, the best of the run: {words.size(speed)} a second, "
        f"{words.many(rate)} operations a second (a multiply-add is two), {words.many(exps)} exponentials a second."
    )


def _floor(floor: dict[str, Any]) -> list[str]:
    names = ("memory_seconds", "arithmetic_seconds", "exponential_seconds", "seconds")
    return [words.seconds(floor[name]) for name in names]


def _lengths(part: dict[str, Any]) -> str:
    blocks = []
    for mode, found in part["modes"].items():
        rows = [
            [
                f"{row['n']:,}",
                *(words.seconds(row["runners"][name]["median_seconds"]) for name in (OURS, PLAIN, SOFTMAX)),
                words.span(row["runners"][SOFTMAX]["times_slower_than_ours"]),
                words.span(row["runners"][PLAIN]["times_slower_than_ours"]),
            ]
            for row in found["rows"]
        ]
        head = [f"n, {mode}", OURS, PLAIN, SOFTMAX, "softmax / layerlab", "plain / layerlab"]
        blocks.append(words.table(head, rows))
    told = "; ".join(
        f"{mode}: layerlab {_from(part['modes'][mode], OURS)}, the plain form {_from(part['modes'][mode], PLAIN)}"
        for mode in MODES
    )
    return (
        "## From which length on\n\nForward passes at each length. The crossover is the length from which on the "
        "form is faster than torch's fused softmax of the same mode at every length measured, between two of them "
        f"by a straight line through the logarithms. {told[0].upper()}{told[1:]}.\n\n![Seconds of a forward pass "
        "against n](images/benchmarks-attention-lengths.svg)\n\n" + "\n\n".join(blocks)
    )


def _from(found: dict[str, Any], name: str) -> str:
    length = found["crossover"][name]["length"]
    if length is None:
        return "is slower at the last length, too"
    first = found["rows"][0]["n"]
    return f"from {length:,.0f} tokens on" if length > first else f"at every length from {first} on"


def _decode(part: dict[str, Any]) -> str:
    names = list(part["rows"][0]["runners"])
    rows = [
        [
            f"{row['n']:,}",
            *(words.seconds(row["runners"][name]["median_seconds"]) for name in names),
            words.size(row["state_bytes"]),
            words.size(row["cache_bytes"]),
        ]
        for row in part["rows"]
    ]
    last = part["rows"][-1]["runners"]
    floors = [
        [
            name,
            words.seconds(last[name]["median_seconds"]),
            "" if name == OURS else words.span(last[name]["times_slower_than_ours"]),
            *_floor(last[name]["floor"]),
        ]
        for name in names
    ]
    fits = "; ".join(
        f"{name}: n^{fit['exponent']:.3f} (standard error {fit['error']:.3f})"
        for name, fit in part["growth"].items()
    )
    n = part["rows"][-1]["n"]
    return (
        "## One token\n\nSeconds to take in one token and to return its output, after n others. Linear: two sums "
        "are updated (layerlab keeps them in float64). Softmax: key and value are written into a cache that has "
        f"room for them, and the query attends to all of it. Growth with n: {fits}.\n\n"
        + words.table(["n", *names, "state", "cache"], rows)
        + "\n\n"
        + words.table(
            [
                f"after {n:,}",
                "median",
                "times slower than layerlab",
                "memory",
                "products",
                "exponentials",
                "floor",
            ],
            floors,
        )
    )


def _memory(part: dict[str, Any]) -> str:
    rows, fits = [], []
    for mode, found in part["modes"].items():
        rows += [_memory_row(f"{mode}, {OURS}", row) for row in found["rows"]]
        rows += [_memory_row(f"{mode}, {name}", row) for name, row in found["others"].items()]
        fit, line = found["growth"], found["line"]
        fits.append(
            f"{mode}: n^{fit['exponent']:.3f} (standard error {fit['error']:.3f}), and "
            f"{words.size(max(line['start'], 0.0))} + {words.size(line['slope'])} a token, which no size is off by "
            f"more than {100 * line['largest_error']:.1f} per cent"
        )
    return (
        "## Memory of a training step\n\nThe peak of the process above the idle one, in which everything is "
        "imported, the kernels loaded, and q, k, v and the result's gradient are there; each size in a process of "
        "its own. An array has the size of q. What must be there is four of them, the result and three gradients. "
        "layerlab's growth: "
        + "; ".join(fits)
        + ".\n\n"
        + words.table(["", "n", "above idle", "in arrays", "idle", "peak"], rows)
    )


def _memory_row(name: str, row: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{row['n']:,}",
        words.size(row["above_idle_bytes"]),
        words.significant(row["above_idle_bytes"] / row["array_bytes"]),
        words.size(row["idle_bytes"]),
        words.size(row["peak_bytes"]),
    ]


def _long(part: dict[str, Any]) -> str:
    fit, growth = part["line"], part["growth"]
    rows = [_long_row(row, None) for row in part["rows"]]
    rows += [_long_row(row, row["off_the_line"]) for row in part["forms"].values()]
    largest = part["rows"][-1]["n"]
    return (
        "## Very long sequences\n\nCausal forward passes, each in a process of its own, the median of three. The "
        f"line through the times up to n = {largest:,}, {words.seconds(max(fit['start'], 0.0))} + "
        f"{1e9 * fit['slope']:.1f} ns a token (no time is off it by more than {100 * fit['largest_error']:.1f} per "
        f"cent; as a power n^{growth['exponent']:.3f}, standard error {growth['error']:.3f}), gives "
        f"{words.seconds(part['expected_seconds'])} at n = {part['largest']:,}. Whole: q, k and v are in memory, and "
        f"count as idle. In pieces of {part['piece']:,} tokens: each piece is given the state of the one before, and "
        "its output is used and dropped, so that the process holds one piece.\n\n"
        + words.table(["n", "form", "median", "off the line", "above idle", "idle", "peak"], rows)
    )


def _long_row(row: dict[str, Any], off: float | None) -> list[str]:
    return [
        f"{row['n']:,}",
        row["form"],
        words.seconds(row["median_seconds"]),
        "" if off is None else f"{100 * off:+.1f} %",
        words.size(row["above_idle_bytes"]),
        words.size(row["idle_bytes"]),
        words.size(row["peak_bytes"]),
    ]


def _gate(part: dict[str, Any]) -> str:
    labels = list(dict.fromkeys(label for row in part["rows"].values() for label in row))
    rows = [
        [name, *(f"{row[label]:.1e}" if label in row else "" for label in labels)]
        for name, row in part["rows"].items()
    ]
    float32, float64 = (f"{allowed:.0e}" for allowed in gate.ALLOWED.values())
    return (
        "## The gate\n\nThe largest difference from attention by its definition in float64: of outputs relative to "
        "the largest number of the row, of gradients (by q, k and v, at the lengths given whole) relative to the "
        f"largest of all. Allowed: {float32} in float32, {float64} in float64.\n\n"
        + words.table(["", *labels], rows)
    )
