"""docs/benchmarks-gradflow.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from bench_common import figures, words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from gradflow_bench import models

_HEAD = """\
# Gradient-flow benchmarks: what a profile costs

Written by `python benchmarks/gradflow.py --docs` from [the stored results](../benchmarks/results/gradflow.json); `make
bench` measures anew. The rules are those of [benchmarks/README.md](../benchmarks/README.md): nothing is timed before
the singular values agree with dense Jacobians, times are paired within one process, and what is slower is listed too.
"""

SECONDS, MEMORY, CHEAPER, SHARE = 60.0, 4e9, 50.0, 0.05


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-gradflow.md`` and its figure into ``folder``."""
    parts, drawn = stored["parts"], {}
    if "jacobians" in parts:
        figure = figures.ratio_figure(_ratios(parts["jacobians"]), "forming the Jacobian")
        drawn["benchmarks-jacobians"] = figures.standalone(figure)
    write_page(folder, "benchmarks-gradflow", render(stored), drawn)


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    sections = (
        ("gate", _gate),
        ("cost", _cost),
        ("jacobians", _jacobians),
        ("power", _power),
        ("monitor", _monitor),
    )
    return page(_HEAD, stored, circumstances(parts), goals(parts), *of_parts(parts, sections))


def goals(parts: dict[str, Any]) -> str:
    """The table of the goals whose parts were measured."""
    reached = Goals()
    row = reached.add
    if "gate" in parts:
        worst = parts["gate"]["largest"]
        row("dense float64 Jacobians", "to 1e-6 relative", f"{worst:.1e}", worst <= 1e-6)
    if "cost" in parts:
        for name, found in parts["cost"]["models"].items():
            work = f"whole profile, {models.NAMES[name]}"
            row(work, f"under {SECONDS:g} s", words.seconds(found["seconds"]), found["seconds"] < SECONDS)
            memory = found["above_idle_bytes"]
            row(f"{work}, peak memory above idle", "under 4 GB", words.size(memory), memory < MEMORY)
    if "jacobians" in parts:
        last = parts["jacobians"]["rows"][-1]
        for name, step in last["steps"].items():
            work = f"σ_max of one step, {name}, {last['size']['width']} wide, {last['size']['tokens']} tokens"
            note = " (extrapolated from rows)" if step["extrapolated"] else ""
            ratio = step["times_cheaper"]
            row(
                work,
                "50 times cheaper than the Jacobian",
                words.span(ratio) + note,
                ratio["ratio"] >= CHEAPER,
            )
    if "monitor" in parts:
        ratio = parts["monitor"]["ratio"]
        told = f"{100 * (ratio['ratio'] - 1):.1f} [{100 * (ratio['low'] - 1):.1f}, {100 * (ratio['high'] - 1):.1f}] %"
        row("training under the monitor", "under 5 % longer", told, ratio["ratio"] - 1 < SHARE)
    return reached.table()


def _gate(part: dict[str, Any]) -> str:
    kinds = ("sigma_max", "sigma_min", "log_product_max", "log_product_min")
    rows = [
        [name, str(row["layers"]), *(f"{row['largest'][k]:.1e} ({row['compared'][k]})" for k in kinds)]
        for name, row in part["rows"].items()
    ]
    head = ["architecture", "layers", "σ_max", "σ_min", "σ_max of products", "σ_min of products"]
    return (
        "## The gate\n\nThe largest relative difference from dense float64 Jacobians, made with torch.func.jacrev and "
        "hooks (row by row where torch cannot batch a kernel), and how many singular values above rounding were "
        "compared. Those that are rounding in the dense matrix must be so in ours. σ_min of a layer wider than 128 "
        "is only bounded by a profile; here all its singular values are asked for.\n\n"
        + words.table(head, rows)
    )


def _cost(part: dict[str, Any]) -> str:
    found = part["models"]
    names = list(found)
    labels = list(next(iter(found.values()))["parts"])
    rows = [
        ["whole profile", *(words.seconds(found[n]["seconds"]) for n in names)],
        ["processor time", *(words.seconds(found[n]["processor_seconds"]) for n in names)],
        *([f"… {label}", *(words.seconds(found[n]["parts"][label]) for n in names)] for label in labels),
        [
            "inside vector products",
            *(words.seconds(sum(found[n]["product_seconds"].values())) for n in names),
        ],
        ["steps", *(str(found[n]["steps"]) for n in names)],
        ["products with a step's J", *(f"{found[n]['products']['product']:,}" for n in names)],
        ["products with its transpose", *(f"{found[n]['products']['transposed']:,}" for n in names)],
        ["one forward pass", *(words.seconds(found[n]["forward_median"]) for n in names)],
        [
            "profile in forward passes",
            *(f"{found[n]['seconds'] / found[n]['forward_median']:,.0f}" for n in names),
        ],
        ["floor in forward passes", *(f"{found[n]['forwards_floor']:,.0f}" for n in names)],
        ["floor", *(words.seconds(found[n]["forwards_floor"] * found[n]["forward_median"]) for n in names)],
        ["peak memory above idle", *(words.size(found[n]["above_idle_bytes"]) for n in names)],
        ["peak memory of the process", *(words.size(found[n]["peak_bytes"]) for n in names)],
    ]
    size = models.Size(**part["size"]).describe()
    return (
        f"## A whole profile\n\nModels at their start, {size}, batch 1, float32, default settings; each in a process "
        "of its own that has profiled a tiny model before.\n\n"
        + words.table(["", *(models.NAMES[n] for n in names)], rows)
        + "\n\nThe floor is what the same products would take at the rate of a forward pass: their multiply-adds, as "
        "torch counts them, divided by those of a forward pass, times its median time (without a record, before and "
        "after the profile). Everything else, recording and normalisations included, is free in it. What bounds a "
        "profile is the number of products: each σ_max of a large step takes up to 40, since random weights have many "
        "singular values close to the largest, and every product of steps at least three ways through all steps before."
    )


def _jacobians(part: dict[str, Any]) -> str:
    rows = []
    for entry in part["rows"]:
        size = entry["size"]
        for name, step in entry["steps"].items():
            formed = words.seconds(statistics.median(step["seconds"]["formed"]))
            rows.append(
                [
                    f"{size['width']} wide, {size['tokens']} tokens, {name}",
                    f"{step['entries']:,}",
                    words.seconds(statistics.median(step["seconds"]["ours"])),
                    formed + (" (extrapolated)" if step["extrapolated"] else ""),
                    words.span(step["times_cheaper"]),
                    "" if step["dense_value"] is None else f"{step['dense_value']:.4f}",
                    f"{step['value']:.4f} ({step['residual']:.1e})",
                ]
            )
    v = part["vectorized"]
    head = [
        *("step", "entries", "layerlab", "forming J", "times cheaper", "σ_max of J"),
        "σ_max found (residual)",
    ]
    return (
        "## σ_max of a layer against its Jacobian\n\nThe steps of one encoder layer, float32, batch 1, in turn (A B B "
        "A). layerlab: record the step, test its products, search σ_max to a residual of 1 per cent or 40 products. "
        "The peer only forms the Jacobian, in chunks of 64 rows by vmap of a vjp, as torch.func.jacrev does; what is "
        "done with it is free. **Extrapolated**: two chunks were timed and multiplied by the number of chunks, whose "
        "cost is the same each. torch.autograd.functional.jacobian(vectorize=True), which needs room for all rows at "
        f"once, takes {words.span(v['chunks_to_vectorized'])} times as long as chunks at {v['entries']:,} entries, "
        f"where layerlab is {words.span(v['times_cheaper'])} times cheaper (feed-forward).\n\n"
        + words.table(head, rows)
        + "\n\n![Times faster than forming the Jacobian, by step and size](images/benchmarks-jacobians.svg)"
    )


def _ratios(part: dict[str, Any]) -> list[tuple[str, dict[str, float], float | None]]:
    return [
        (f"{entry['size']['width']} wide, {name}", step["times_cheaper"], CHEAPER)
        for entry in part["rows"]
        for name, step in entry["steps"].items()
    ]


def _power(part: dict[str, Any]) -> str:
    rows = []
    for steps in part["rows"].values():
        for name, row in steps.items():
            rows.append(
                [
                    f"{name}, residual {row['tolerance']:g}",
                    *(str(row["products"][side]) for side in ("ours", "power")),
                    *(words.seconds(statistics.median(row["seconds"][side])) for side in ("ours", "power")),
                    words.span(row["times_cheaper"]),
                    *(f"{row['values'][side]:.5f}" for side in ("ours", "power")),
                ]
            )
    head = [
        *(
            "step",
            "products",
            "of power iteration",
            "seconds",
            "of power iteration",
            "times cheaper",
            "σ_max",
        ),
        "by power iteration",
    ]
    size = part["size"]
    return (
        f"## Against power iteration\n\n{size['width']} wide, {size['tokens']} tokens: torch.func.jvp and vjp in turn "
        "until the residual ‖Jᵀu − σv‖/σ is as small as asked. Both values are attained, so the larger is the nearer."
        "\n\n" + words.table(head, rows)
    )


def _monitor(part: dict[str, Any]) -> str:
    size = models.Size(**part["size"]).describe()
    own = ", ".join(f"{100 * share:.1f}" for share in part["own_account"])
    return (
        f"## The monitor\n\n{part['steps']} training steps of an encoder ({size}, batch 8) with and without "
        f"`layerlab.gradflow.monitoring.monitor` in its default settings, in turn: "
        f"{words.span(part['ratio'])} times the time without. By its own account, over the runs: {own} per cent."
    )
