"""The attention of a model in the terminal: its layers, its heads, the ranking, the times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

# More heads than this are for the page.
MOST_HEADS = 16
MOST_ROWS = 48

_LEAST_NAME, _ENOUGH_NAME = 12, 30


def print_attention(record: Record) -> None:
    """Prints what was found: standard output."""
    from rich.text import Text

    from layerlab.attention.inspection import text
    from layerlab.attention.inspection.ranking import percent
    from layerlab.cli.output import console, print_table

    terminal = console()

    def dim(words: str) -> None:
        terminal.print(Text(words, style="dim"))

    print_table(text.title(record), *_fitted(_layers(record), terminal.width))
    dim(
        "entropy: share of the possible (1 is uniform). eff. rank: exp of the entropy of the singular values. rank"
        " 99 %: of their squares. near: weight within 8 tokens. first: weight on the first key. a–b: least and"
        " most of the heads."
    )
    heads = sum(site["head_count"] for site in record["sites"])
    if len(record["sites"]) < heads <= MOST_HEADS:
        print_table("heads", *_fitted(_heads(record), terminal.width))
    print_table(
        f"ranking, at most {percent(record['max_error'])} error",
        *_fitted(_ranking(record), terminal.width),
        left=3,
    )
    dim(
        "error: of the model's output, predicted to first order, of this swap alone. speed: softmax's time over that of"
        " the swap, attention alone, at the model's length. Nothing is fitted here: layerlab model linearize does that."
    )
    for words, found in text.by_setting(record):
        print_table(f"on this machine: {words}", *_times(found))
    good = record["sites"] and text.ranking(record)[0]["advice"]["standing"] == "replace"
    terminal.print(
        Text("verdict: ", style=f"bold {'green' if good else 'yellow'}") + Text(text.verdict(record))
    )
    for found in record["unseen"]:
        terminal.print(Text(f"  {text.unseen(found)}"))
    for note in [*record["notes"], *filter(None, [text.busy(record)])]:
        terminal.print(Text(f"  note: {note}"))


def _layers(record: Record) -> dict[str, list[str]]:
    from layerlab.attention.inspection import text

    sites = record["sites"]
    return {
        "attention at": [site["site"] for site in sites],
        "heads": [str(site["head_count"]) for site in sites],
        "tokens": [text.tokens(site) for site in sites],
        "entropy": [text.spanned(site, "entropy_share", 2) for site in sites],
        "eff. rank": [text.spanned(site, "effective_rank", 0) for site in sites],
        "rank 99 %": [text.spanned(site, "rank", 0) for site in sites],
        "near": [text.spanned(site, "near", 2) for site in sites],
        "first": [text.spanned(site, "sink", 2) for site in sites],
    }


def _heads(record: Record) -> dict[str, list[str]]:
    from layerlab.attention.inspection import text

    rows = [(site, number) for site in record["sites"] for number in range(site["head_count"])]

    def column(name: str, digits: int) -> list[str]:
        return [text.measured(site["heads"][number][name], digits) for site, number in rows]

    return {
        "attention at": [site["site"] for site, _ in rows],
        "head": [str(number + 1) for _, number in rows],
        "entropy": column("entropy_share", 3),
        "eff. rank": column("effective_rank", 1),
        "rank 99 %": column("rank", 1),
        "distance": column("distance", 1),
        "near": column("near", 3),
        "first": column("sink", 3),
    }


def _ranking(record: Record) -> dict[str, list[str]]:
    from layerlab.attention.inspection import text
    from layerlab.attention.inspection.ranking import percent

    sites = text.ranking(record)
    meant = [text.meant(site) for site in sites]
    return {
        "attention at": [site["site"] for site in sites],
        "advice": [text.STANDINGS[site["advice"]["standing"]] for site in sites],
        "by": [candidate["mechanism"] if candidate else "–" for candidate in meant],
        "error": [percent(candidate["error"]) if candidate else "–" for candidate in meant],
        "speed": [text.speed(candidate) for candidate in meant],
        "pays from": [text.pays_from(candidate) for candidate in meant],
    }


def _times(found: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Ratios of time at the lengths that all have, as many as fit."""
    lengths = sorted({n for entry in found for n in entry["lengths"]})
    lengths = lengths[-8:]
    rows = []
    for entry in found:
        ratios = {
            n: a / b for n, a, b in zip(entry["lengths"], entry["softmax"], entry["other"], strict=True)
        }
        pays = "–" if not entry["lengths"] else "never" if entry["length"] is None else str(entry["length"])
        rows.append([entry["mechanism"], pays, *(f"{ratios[n]:.2g}" if n in ratios else "" for n in lengths)])
    return ["times as fast as softmax", "pays from", *(f"{n}" for n in lengths)], rows


def _fitted(columns: dict[str, list[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """The table with the names of its first column as long as there is room; of very many rows the first."""
    from layerlab.gradflow.inspection.text import short_name

    first, *others = columns
    room = width - 3 * len(columns) - 1 - sum(max(map(len, [name, *columns[name]])) for name in others)
    longest = max([len(first), *map(len, columns[first])])
    room = max(_LEAST_NAME, min(room, max(longest, _ENOUGH_NAME)))
    shown = {**columns, first: [short_name(name, room) for name in columns[first]]}
    rows = [list(row) for row in zip(*shown.values(), strict=True)]
    if len(rows) > MOST_ROWS:
        left_out = len(rows) - MOST_ROWS + 1
        rows = [*rows[: MOST_ROWS - 1], [f"… {left_out} more", *[""] * len(others)]]
    return list(shown), rows
