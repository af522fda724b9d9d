"""docs/benchmarks-projection.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from projection_bench import races

_HEAD = """\
# Projection benchmarks: what certified codebooks cost

Written by `python benchmarks/projection.py --docs` from [the stored results](../benchmarks/results/projection.json);
`make bench` measures anew. The rules are those of [benchmarks/README.md](../benchmarks/README.md): nothing is timed
before every way agrees with a slow reference, times are paired within one process, and what is slower is listed too.
"""

SHARE, PAIRS, MEMORY, ABOVE = 0.6, 10**9, 8e9, 0.05
LEVEL = 0.001  # of the test that a rate is not above what is stated


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-projection.md`` into ``folder``."""
    write_page(folder, "benchmarks-projection", render(stored))


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    sections = (
        ("gate", _gate),
        ("certify", _certify),
        ("ways", _ways),
        ("kerdock", _kerdock),
        ("frames", _frames),
        ("draws", _draws),
    )
    return page(_HEAD, stored, circumstances(parts), goals(parts), *of_parts(parts, sections))


def goals(parts: dict[str, Any]) -> str:
    """The table of the goals whose parts were measured."""
    reached = Goals()
    row = reached.add
    if "certify" in parts:
        part = parts["certify"]
        for name in (races.SIGNS, races.REAL):
            share = part["rows"][name]["share"]
            work = f"{name}, {part['count']:,} x {part['dim']:,}"
            row(work, "60 % of torch.mm's rate, same blocks", _percent(share), share["ratio"] >= SHARE)
    if "kerdock" in parts:
        part = parts["kerdock"]
        work = f"Kerdock set, {part['dim']:,} dimensions"
        whole = part["exact"] and part["coherence"] == part["dim"] ** -0.5
        row(work, "all lines, proved", f"{part['lines']:,} lines at {part['coherence']:g}", whole)
        row(work, "10^9 pairs measured", words.many(part["measured_pairs"]), part["measured_pairs"] >= PAIRS)
        row(f"{work}, peak memory", "under 8 GB", words.size(part["peak_bytes"]), part["peak_bytes"] < MEMORY)
    if "frames" in parts:
        worst = max(entry["above"] for entry in parts["frames"]["rows"])
        work = f"{len(parts['frames']['rows'])} small frames, above the published coherence"
        row(work, "at most 5 %", f"{100 * worst:.3f} %", worst <= ABOVE)
    if "draws" in parts:
        part = parts["draws"]
        stated = [entry for entry in part["rows"] if entry["stated"] < 1]
        within = sum(entry["p"] >= LEVEL for entry in stated)
        work = f"random maps, failures of {part['draws']:,} draws within what is stated"
        row(work, f"all (p ≥ {LEVEL:g})", f"{within} of {len(stated)}", within == len(stated))
    return reached.table()


def _percent(entry: dict[str, float]) -> str:
    return f"{100 * entry['ratio']:.0f} [{100 * entry['low']:.0f}, {100 * entry['high']:.0f}] %"


def _gate(part: dict[str, Any]) -> str:
    rows = [[name, f"{value:.1e}"] for name, value in part["rows"].items()]
    return (
        "## The gate\n\nThe largest difference of the ten nearest pairs from all cosines of long-double unit vectors "
        "(kerdock: of the proved coherence from that of all lines of 64 dimensions).\n\n"
        + words.table(["vectors", "difference"], rows)
    )


def _certify(part: dict[str, Any]) -> str:
    rows = [
        [
            name,
            words.seconds(row["median_seconds"]),
            f"{row['rate'] / 1e9:,.0f}",
            _percent(row["share"]),
            _percent(row["share_of_square"]),
        ]
        for name, row in part["rows"].items()
    ]
    real, signs = part["certificates"]
    surplus = 100 * (part["block_operations"] / part["half_operations"] - 1)
    return (
        f"## Coherence of {part['count']:,} vectors of {part['dim']:,} dimensions\n\n"
        f"Operations are those of the half that is needed: {part['count']:,} x {part['count'] - 1:,} / 2 products of 2 "
        f"x {part['dim']:,}, {part['half_operations']:.3g} in all, whatever a way really does (one that makes the "
        "whole matrix does twice as many; packed bits do none of them). The rate of torch.mm is that of its float32 "
        f"products of the same {part['blocks']} blocks, whose {surplus:.1f} % of operations beyond the half are "
        f"counted to its credit: {part['block_rate'] / 1e9:,.0f} GFLOP/s; beside it, that of one block of "
        f"{part['square']:,} x {part['square']:,}, {part['square_rate'] / 1e9:,.0f} GFLOP/s.\n\n"
        + words.table(
            ["work", "time", "GFLOP/s of the half", "of the same blocks' rate", "of one block's"], rows
        )
        + f"\n\nA certificate of real vectors ({real['arithmetic']}) is wrong by at most {real['error']:.1e} here; one "
        f"of signs ({signs['arithmetic']}) is exact. Both have the ten nearest pairs, and, unless said, the "
        f"histogram of all cosines. The whole product takes {words.size(4 * part['count'] ** 2)} and says nothing of "
        "its rounding."
    )


def _ways(part: dict[str, Any]) -> str:
    rows = [
        [name, f"{row['nanoseconds']:.3g} ns", words.span(row["times_float32"])]
        for name, row in part["rows"].items()
    ]
    return (
        f"## Exact products of signs\n\n{part['side']:,} x {part['side']:,} pairs of {part['dim']:,} signs; all ways "
        "give the same whole numbers.\n\n" + words.table(["way", "a pair", "times as fast as float32"], rows)
    )


def _kerdock(part: dict[str, Any]) -> str:
    cosines = ", ".join(f"{count:,} of {cosine}" for cosine, count in part["cosines"].items())
    rows = [
        ["make the forms", words.seconds(part["make_seconds"])],
        ["prove all pairs of bases", words.seconds(part["prove_seconds"])],
        ["prove, and measure the sample", words.seconds(part["certify_seconds"])],
        *(
            [
                f"write {form}, {words.size(part['file_bytes'][form])}",
                words.seconds(part[f"write_{form}_seconds"]),
            ]
            for form in ("int8", "float32")
        ),
    ]
    return (
        f"## All {part['lines']:,} lines of {part['dim']:,} dimensions\n\n"
        f"{part['bases']:,} orthonormal bases: {part['lines']:,} lines, {part['pairs']:,} pairs, coherence "
        f"{part['coherence']:g}; the floor ({part['floor_name']}) is {part['floor']:.6g}. Proved by algebra, for all "
        f"pairs: {part['proved_by']}. Measured, {part['measured_pairs']:,} pairs of lines drawn at random: cosines "
        f"{cosines}. Peak memory {words.size(part['peak_bytes'])}, {words.size(part['above_idle_bytes'])} above the "
        "idle process.\n\n" + words.table(["work", "time"], rows)
    )


def _frames(part: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['count']} lines of {'R' if row['field'] == 'real' else 'C'}^{row['dim']}",
            f"{row['published']:.8f}",
            f"{row['coherence']:.8f}",
            f"{100 * row['above']:+.4f} %",
            words.seconds(row["seconds"]),
            row["source"],
        ]
        for row in part["rows"]
    ]
    head = ["frame", "published", "found", "above", "time", "source"]
    return (
        "## Small frames\n\nThe default search, seed 0, against the least coherence that is published.\n\n"
        + words.table(head, rows)
    )


def _draws(part: dict[str, Any]) -> str:
    rows = [
        [
            row["map"],
            str(row["dim"]),
            f"{row['stated']:.4f}" if row["stated"] < 1 else "nothing",
            "yes" if row["proved"] else "no",
            str(row["failures"]),
            f"{row['failures'] / part['draws']:.3f}",
            f"{row['p']:.2g}" if row["stated"] < 1 else "",
        ]
        for row in part["rows"]
    ]
    costs = [
        [
            f"{row['width']:,}",
            *(words.seconds(row[kind]["seconds"]) for kind in ("gaussian", "hadamard")),
            f"{row['gaussian']['seconds'] / row['hadamard']['seconds']:.1f}",
            *(words.size(row[kind]["bytes"]) for kind in ("gaussian", "hadamard")),
        ]
        for row in part["costs"]
    ]
    head = ["map", "dimension", "stated", "proved", "failures", "rate", "p of a larger rate"]
    return (
        f"## Random maps\n\n{part['draws']:,} draws each, fixed in advance; {part['count'] - 1} orthonormal points of "
        f"R^{part['width']}, turned, and 0; ε = {part['eps']:g} (scikit-learn: {part['scikit_learn']} dimensions). A "
        "map fails where one pair's squared distance is off by more than ε. p: of a rate this large or larger if the "
        "stated probability were true (exact binomial test).\n\n"
        + words.table(head, rows)
        + f"\n\n{part['costs'][0]['count']} rows in float32 to 1,024 dimensions, the least of repeated runs:\n\n"
        + words.table(["d", "Gaussian", "fast", "times as fast", "Gaussian map", "fast map"], costs)
    )
