"""docs/benchmarks-estimators.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench_common import figures, words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from estimators_bench import gate, ours, policies
from estimators_bench.functions import PROBLEMS
from layerlab.lab.report.charts import line_chart
from layerlab.lab.statistics import paired_difference

OVERHEAD = 1e-3  # seconds
SOLVED_SEEDS, SECONDS = 9, 180.0

_HEAD = """\
# Estimator benchmarks: ten functions, CartPole, and the cost of an estimate

Written by `python benchmarks/estimators.py --docs` from [the stored results](../benchmarks/results/estimators.json);
`make bench` measures anew. The rules are those of [benchmarks/README.md](../benchmarks/README.md): nothing is raced
before variances equal their closed forms, every optimiser spends the same number of evaluations, and where others are
better is listed too.
"""

Rows = list[dict[str, Any]]


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-estimators.md`` and its figure into ``folder``."""
    rows = _runs(stored["parts"])
    drawn = {"benchmarks-optimisers": _figure(rows, _curves(stored["parts"]))} if rows else {}
    write_page(folder, "benchmarks-estimators", render(stored), drawn)


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    rows = _runs(parts)
    where = circumstances(parts, threads="processes or threads")
    sections = (("policy", _policy), ("overhead", _overhead), ("gate", _gate))
    return page(_HEAD, stored, where, goals(parts), _race(rows) if rows else "", *of_parts(parts, sections))


def goals(parts: dict[str, Any]) -> str:
    """The table of the goals whose parts were measured."""
    reached = Goals()
    row = reached.add
    if "gate" in parts:
        largest = parts["gate"]["largest"]
        row(
            "enumerated variances",
            f"closed forms to {gate.ALLOWED:g}",
            f"{largest:.1e}",
            largest <= gate.ALLOWED,
        )
        tests = parts["gate"]["bias"].values()
        right = sum(test["passed"] != test["biased"] for test in tests)
        row(
            "bias test",
            "unbiased pass, biased fail",
            f"{right} of {len(tests)} estimators",
            right == len(tests),
        )
    if "optimise" in parts:
        found = [_against(parts["optimise"]["rows"], p.name, ours.PLAIN) for p in PROBLEMS]
        held = sum(difference.mean >= 0 for difference in found)
        row(
            "optimise, mean of the best value",
            "at least plain REINFORCE's, on all ten",
            f"{held} of {len(PROBLEMS)}",
            held == len(PROBLEMS),
        )
    if "policy" in parts:
        cells = parts["policy"]["rows"]
        solved, slowest = sum(c["solved"] for c in cells), max(c["seconds"] for c in cells)
        row(
            f"{policies.ENVIRONMENT}: mean return of {policies.SOLVED:g} over {policies.EPISODES} episodes",
            f"{SOLVED_SEEDS} of 10 seeds",
            f"{solved} of {len(cells)}",
            solved >= SOLVED_SEEDS,
        )
        row(f"{policies.ENVIRONMENT}: slowest seed", "3 minutes", words.seconds(slowest), slowest < SECONDS)
    if "overhead" in parts:
        for black_box in (True, False):
            chosen = [r for r in parts["overhead"]["rows"] if r["differentiable"] != black_box]
            worst = max(chosen, key=lambda r: r["median_seconds"])
            what = "black-box estimators" if black_box else "estimators that differentiate f"
            row(
                f"beyond f, 64 samples of 64 variables, {what}",
                "under 1 ms",
                f"at most {words.seconds(worst['median_seconds'])} ({worst['estimator']}, {worst['family']})",
                worst["median_seconds"] < OVERHEAD,
            )
    return reached.table()


def _runs(parts: dict[str, Any]) -> Rows:
    return [row for name in ("optimise", "rivals") if name in parts for row in parts[name]["rows"]]


def _names(rows: Rows) -> list[str]:
    """Optimisers, ours first."""
    return list(dict.fromkeys([*ours.SETTINGS, *(row["optimiser"] for row in rows)]))


def _best(rows: Rows, problem: str, optimiser: str) -> list[float]:
    return [row["best"] for row in rows if (row["problem"], row["optimiser"]) == (problem, optimiser)]


def _against(rows: Rows, problem: str, rival: str) -> Any:
    return paired_difference(_best(rows, problem, ours.OURS), _best(rows, problem, rival))


def _race(rows: Rows) -> str:
    names = [name for name in _names(rows) if any(row["optimiser"] == name for row in rows)]
    table = []
    for problem in PROBLEMS:
        cells = []
        for name in names:
            values = _best(rows, problem.name, name)
            if not values:
                cells.append("")
                continue
            told = f"{words.significant(fmean(values), 4)} ({words.significant(stdev(values), 2)})"
            cells.append(f"{told}{_mark(rows, problem.name, name)}")
        table.append([f"{problem.name}, {problem.budget:,}", *cells])
    short = sum(
        row["evaluations"] < p.budget
        for p in PROBLEMS
        for row in rows
        if (row["problem"], row["optimiser"]) == (p.name, "nevergrad")
    )
    ended = (
        f" {short} runs of nevergrad ended early by an error of its own (with this version of numpy) and count with "
        "what they had found."
        if short
        else ""
    )
    about = "\n".join(f"- **{p.name}**: {p.about}." for p in PROBLEMS)
    seeds = len({row["seed"] for row in rows})
    return (
        f"## Ten functions\n\nThe best value found, to be maximised: mean over {seeds} seeds (standard deviation); "
        "after the name the evaluations that each optimiser may spend. + and − say that layerlab is better or worse "
        "than this optimiser, by the 95 % interval of the paired difference over seeds; = that it does not tell. Plain "
        f"REINFORCE has neither baseline nor natural gradient, ranks or restarts, and steps with Adam.{ended} "
        "Evaluations are calls of the function: our two do not call it again for a sample whose value they know, as "
        "`optimise` never does; the others pay for what they repeat.\n\n"
        + words.table(["function", *names], table)
        + f"\n\n{about}\n\n"
        "![The share of what was found, by evaluations](images/benchmarks-optimisers.svg)\n\n"
        "0 is the mean of what random search finds in the end, 1 the best value that any optimiser found in any run; "
        "mean over the functions of bits and categories. An optimiser that begins far below random search's end "
        "begins below 0."
    )


def _mark(rows: Rows, problem: str, name: str) -> str:
    if name == ours.OURS or not _best(rows, problem, ours.OURS):
        return ""
    difference = _against(rows, problem, name)
    return " +" if difference.low > 0 else " −" if difference.high < 0 else " ="


def _curves(parts: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Mean curves by problem and optimiser."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in ("optimise", "rivals"):
        for problem, curves in parts.get(name, {}).get("curves", {}).items():
            found.setdefault(problem, {}).update(curves)
    return found


def _figure(rows: Rows, curves: dict[str, dict[str, list[float]]]) -> str:
    discrete = [p.name for p in PROBLEMS if p.kind != "gaussian"]
    names = [n for n in _names(rows) if all(_best(rows, p, n) for p in discrete)]
    reference = "random search" if "random search" in names else names[-1]
    shares: dict[str, list[list[float]]] = {name: [] for name in names}
    for problem in discrete:
        zero = fmean(_best(rows, problem, reference))
        one = max(row["best"] for row in rows if row["problem"] == problem)
        for name in names:
            shares[name].append([(value - zero) / ((one - zero) or 1.0) for value in curves[problem][name]])
    count = len(shares[names[0]][0])
    budget = max(p.budget for p in PROBLEMS)
    x = [budget * (k + 1) / count for k in range(count)]
    drawn = line_chart(
        [{"label": n, "x": x, "mean": [fmean(c) for c in zip(*shares[n], strict=True)]} for n in names],
        "share of the best found",
        xlabel="evaluations",
        title="The share of what was found, by evaluations",
        decimals=2,
    )
    return figures.standalone(drawn.svg)


def _policy(part: dict[str, Any]) -> str:
    rows = [
        [
            str(r["seed"]),
            f"{r['mean_return']:.1f}",
            f"{r['steps']:,.0f}",
            words.seconds(r["seconds"]),
            "yes" if r["solved"] else "**no**",
        ]
        for r in part["rows"]
    ]
    return (
        f"## {policies.ENVIRONMENT}\n\nThe defaults of `layerlab estimator policy`, seeds that were not used to choose "
        f"them; the mean return of {policies.EPISODES} fresh episodes with the weights that were kept, and the time of "
        "training, with as many seeds at once as there are processes.\n\n"
        + words.table(["seed", "mean return", "environment steps", "time", "solved"], rows)
    )


def _overhead(part: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['family']}, {r['estimator']}",
            words.seconds(r["median_seconds"]),
            str(r["operations"]),
            words.seconds(r["floor_seconds"]),
        ]
        for r in part["rows"]
    ]
    return (
        "## Beyond f\n\nThe time of one estimate of 64 samples that is not spent in f (its derivative "
        "counts as f); median. The floor "
        "is the number of torch's operations times what the cheapest takes here, from Python and on one number.\n\n"
        + words.table(["family and estimator", "time", "operations", "floor"], rows)
    )


def _gate(part: dict[str, Any]) -> str:
    rows = [
        [name, "biased" if r["biased"] else "unbiased", f"{r['z']:.2f}", f"{r['limit']:.2f}"]
        for name, r in part["bias"].items()
    ]
    return (
        "## The gate\n\nVariances of one bit by enumeration against closed forms, over 45 cases: the "
        "largest relative difference is "
        f"{part['largest']:.1e}. The bias test, {part['repetitions']:,} estimates of 12 samples each on "
        "five bits: the largest |z| of a "
        "coordinate, and what it is held against.\n\n" + words.table(["estimator", "is", "z", "limit"], rows)
    )
