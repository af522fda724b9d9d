"""How well the error of exchanging a layer's attention is predicted, over a fixed set of small trained models.

Usage: python benchmarks/linearize.py [--quick | --docs]

Trains the sixteen models of linearize_bench/zoo.py (46 attentions), exchanges each attention by each mechanism that can
stand there, and compares the first-order error with the measured one. The set, the measure and what counts as a hit
stand in linearize_bench/zoo.py and swaps.py; they were committed before any error was predicted or measured. `--quick`
is a smoke run of one small model that stores nothing; `--docs` draws the figure from what is stored.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from linearize_bench.swaps import MECHANISMS, study
from linearize_bench.zoo import FIXED, Case, train

from layerlab.lab.json_files import read_json, write_json
from layerlab.lab.machine import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "linearize.json"
FIGURE = ROOT / "docs" / "images" / "linearize-prediction.svg"

WITHIN, ASKED = 2.0, 0.8


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def is_hit(swap: dict[str, Any]) -> bool:
    return 1 / WITHIN <= swap["ratio"] <= WITHIN


def run(cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        started = time.perf_counter()
        trained = train(case)
        rows.append(study(trained))
        hits = sum(map(is_hit, rows[-1]["swaps"]))
        say(
            f"{case.name:16} score {trained.score:.3f} in {trained.seconds:.0f} s; {hits} of {len(rows[-1]['swaps'])} "
            f"within a factor of {WITHIN:g}; {time.perf_counter() - started:.0f} s in all"
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Hits in all, by mechanism and by size of the error."""
    swaps = [swap for row in rows for swap in row["swaps"]]

    def share(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        return {"swaps": len(chosen), "hits": sum(map(is_hit, chosen))}

    small = [swap for swap in swaps if swap["measured"] <= 0.1]
    logs = [abs(math.log(swap["ratio"])) for swap in swaps]
    return {
        "layers": sum(row["sites"] for row in rows),
        **share(swaps),
        "share": sum(map(is_hit, swaps)) / len(swaps),
        "median_factor": math.exp(sorted(logs)[len(logs) // 2]),
        "by_mechanism": {
            name: share([swap for swap in swaps if swap["mechanism"] == name]) for name in MECHANISMS
        },
        "error_at_most_0.1": share(small),
        "missed": [
            {"case": row["case"]["name"], **swap} for row in rows for swap in row["swaps"] if not is_hit(swap)
        ],
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['hits']} of {found['swaps']} swaps ({found['share']:.0%}) of {found['layers']} layers within a factor "
        f"of {WITHIN:g}; asked: {ASKED:.0%}. Median factor {found['median_factor']:.2f}."
    )
    for name, part in found["by_mechanism"].items():
        print(f"    {name:14} {part['hits']} of {part['swaps']}")
    part = found["error_at_most_0.1"]
    print(f"    measured error at most 0.1: {part['hits']} of {part['swaps']}")
    for swap in found["missed"]:
        print(
            f"    missed: {swap['case']} {swap['site']} {swap['mechanism']}: predicted {swap['predicted']:.3g}, "
            f"measured {swap['measured']:.3g}"
        )


def draw(rows: list[dict[str, Any]]) -> None:
    from linearize_bench.figure import predicted_against_measured

    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text(predicted_against_measured(rows, MECHANISMS), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small model, stores nothing")
    parser.add_argument("--docs", action="store_true", help="draw the figure anew from the stored results")
    options = parser.parse_args()
    if options.docs:
        draw(read_json(RESULTS)["models"])
        return
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if options.quick:
        show(summary(run((dataclasses.replace(FIXED[1], steps=60),))))
        return
    started = time.perf_counter()
    rows = run(FIXED)
    found = summary(rows)
    write_json(
        RESULTS,
        {
            "command": "python benchmarks/linearize.py",
            "environment": environment(),
            "seconds": time.perf_counter() - started,
            "within": WITHIN,
            "asked": ASKED,
            "summary": found,
            "models": rows,
        },
    )
    draw(rows)
    show(found)
    if found["share"] < ASKED:
        sys.exit(f"under the {ASKED:.0%} that are asked for")


if __name__ == "__main__":
    main()
