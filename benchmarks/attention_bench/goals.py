"""What is to be reached, beside what was measured."""

from __future__ import annotations

from typing import Any

from bench_common import words
from bench_common.sections import Goals

from attention_bench.contestants import MATMUL, MODES, OURS, SOFTMAX, WHOLE_SOFTMAX

FORWARD = {"bidirectional": 100.0, "causal": 40.0}
TRAINING, DECODE, LONG_BYTES = 20.0, 100.0, 4e9
# Exponents that count as linear and as constant, and how near a time on the line is.
LINEAR, CONSTANT, NEAR = 1.05, 0.05, 0.15

_FORMS = {"pieces": "in pieces", "whole": "whole"}

Ratio = tuple[str, dict[str, float], float | None]


def ratios(parts: dict[str, Any]) -> list[Ratio]:
    """Label, how many times faster than softmax with its interval, and the goal, if it is held against this peer."""
    found: list[Ratio] = []
    for part, what in (("forward", "forward"), ("training", "forward + backward")):
        for mode in MODES if part in parts else ():
            rows = parts[part]["modes"][mode]
            goal = FORWARD[mode] if part == "forward" else TRAINING
            label = f"{mode}, {what}, {parts[part]['n']:,} tokens"
            if WHOLE_SOFTMAX in rows:
                found.append((f"{label}, against all keys", _times(rows[WHOLE_SOFTMAX]), goal))
                label += ", against causal"
            found.append((label, _times(rows[SOFTMAX]), goal))
    if "decode" in parts:
        last = parts["decode"]["rows"][-1]
        runners = last["runners"]
        best = min((SOFTMAX, MATMUL), key=lambda name: float(runners[name]["median_seconds"]))
        label = f"one token after {last['n']:,}{', against matrix products' if best == MATMUL else ''}"
        found.append((label, _times(runners[best]), DECODE))
    return found


def _times(row: dict[str, Any]) -> dict[str, float]:
    times: dict[str, float] = row["times_slower_than_ours"]
    return times


def table(parts: dict[str, Any]) -> str:
    """The goals whose parts were measured."""
    goals = Goals()
    row = goals.add
    for label, times, goal in ratios(parts):
        assert goal is not None
        row(label, f"{goal:g} times", words.span(times), times["ratio"] >= goal)
    if "decode" in parts:
        grown = parts["decode"]["growth"][OURS]
        first, last = parts["decode"]["rows"][0], parts["decode"]["rows"][-1]
        work = f"one token after {first['n']:,} to {last['n']:,}"
        row(
            f"{work}, time",
            f"constant: n^{CONSTANT:g} at most",
            _power(grown),
            abs(grown["exponent"]) <= CONSTANT,
        )
        held = [words.size(entry["state_bytes"]) for entry in (first, last)]
        row(f"{work}, memory", "constant", " to ".join(dict.fromkeys(held)), len(set(held)) == 1)
    for mode in MODES if "memory" in parts else ():
        grown = parts["memory"]["modes"][mode]["growth"]
        work = f"{mode}, forward + backward, peak memory"
        row(work, f"linear: n^{LINEAR:g} at most", _power(grown), grown["exponent"] <= LINEAR)
    if "long" in parts:
        for form, entry in parts["long"]["forms"].items():
            work = f"causal, forward, {entry['n']:,} tokens, {_FORMS[form]}"
            name, what = (
                ("peak_bytes", "of the process")
                if form == "pieces"
                else ("above_idle_bytes", "above q, k, v")
            )
            row(f"{work}, memory {what}", "under 4 GB", words.size(entry[name]), entry[name] < LONG_BYTES)
            off = entry["off_the_line"]
            goal = f"on the line of shorter ones, to {100 * NEAR:g} %"
            row(f"{work}, time", goal, f"{100 * off:+.1f} %", abs(off) <= NEAR)
    return goals.table()


def _power(fit: dict[str, float]) -> str:
    return f"n^{fit['exponent']:.3f} ± {fit['error']:.3f}"
