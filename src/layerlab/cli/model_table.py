"""The profile of a model in the terminal: a table as wide as the terminal allows, the verdict, remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

MOST_ROWS = 60

_SHOWN = 45  # rows of a model that has more than MOST_ROWS
_TYPE, _SHORT_TYPE, _LEAST_NAME, _ENOUGH_NAME = 22, 14, 12, 28
_COLOURS = {"healthy": "green", "vanishing": "red", "exploding": "red"}

# Where there is no room for all columns, these go first.
_DISPENSABLE = ("slack", "σ min", "type")


def print_profile(record: Record) -> None:
    """Prints what was measured: standard output."""
    from rich.text import Text

    from layerlab.cli.output import console, print_table
    from layerlab.gradflow.inspection.time_page import remarks

    terminal = console()

    def say_verdict(kind: str, words: str) -> None:
        terminal.print(Text(f"{kind}: ", style=f"bold {_COLOURS[kind]}") + Text(words))

    columns, rows = table(record, terminal.width)
    left = 2 if "type" in columns else 1
    print_table(title(record), columns, rows, left=left)
    terminal.print(
        Text(
            "product: log₁₀ σ max from the input to here. gradient: log₁₀ of what reaches the layer's input, relative "
            "to the output's.",
            style="dim",
        )
    )
    verdict = record["verdict"]
    say_verdict(verdict["kind"], verdict["sentence"])
    if record["remedies"]:
        print_table(*_remedies(record["remedies"]), left=2)
        best = record["remedies"][0]
        if best["helped"]:
            terminal.print(Text(f"  - {best['name']}: {best['what']}"))
    if record["through_time"] is not None:
        print_table(*_through_time(record["through_time"]))
        for remark in remarks(record["through_time"]):
            terminal.print(Text(f"  - {remark}"))
    for note in record["notes"]:
        terminal.print(Text(f"  note: {note}"))


def title(record: Record) -> str:
    """Model, mode, number of samples and layers."""
    count = len(record["layers"])
    samples = f"{record['samples']} samples" if record["separate"] else "the batch as one sample"
    inputs = ", ".join(" × ".join(map(str, given["shape"])) for given in record["inputs"])
    return (
        f"{record['model']}, {record['parameters']:,} parameters, {record['mode']} mode, {record['dtype']}; "
        f"input {inputs}, {samples}: {count} layer{'s' if count > 1 else ''}"
    )


def table(record: Record, width: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows that fit into ``width`` characters; the layer to blame is marked with ▸."""
    from layerlab.gradflow.inspection import text

    gradients = text.gradients(record)
    every = {
        "layer": [
            f"{'▸ ' if layer['name'] == record['verdict']['layer'] else ''}{layer['name']}"
            for layer in record["layers"]
        ],
        "type": [text.shortened(layer["kind"], _TYPE) for layer in record["layers"]],
        "σ max": [text.sigma(layer) for layer in record["layers"]],
        "bound": [text.bound(layer) for layer in record["layers"]],
        "slack": [text.slack(layer) for layer in record["layers"]],
        "σ min": [text.sigma_min(layer) for layer in record["layers"]],
        "product": [text.decimal(text.product(layer)) for layer in record["layers"]],
        "gradient": [text.decimal(value) for value in gradients],
        "flat": [text.flatness(layer) for layer in record["layers"]],
    }
    kept = text.of_interest(record, _SHOWN if len(record["layers"]) > MOST_ROWS else MOST_ROWS)
    if not any(every["flat"]):
        del every["flat"]
    shown = {name: [cells[i] for i in kept] for name, cells in every.items()}
    wanted = min(_ENOUGH_NAME, max(map(len, shown["layer"])))
    if _room(shown, width) < wanted:
        shown["type"] = [text.shortened(kind, _SHORT_TYPE) for kind in shown["type"]]
    for name in _DISPENSABLE:
        if _room(shown, width) >= wanted:
            break
        del shown[name]
    room = max(_LEAST_NAME, _room(shown, width))
    shown["layer"] = [text.short_name(name, room) for name in shown["layer"]]
    return list(shown), _with_gaps(kept, [list(row) for row in zip(*shown.values(), strict=True)])


def _remedies(tried: Sequence[Record]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows of what was tried."""
    from layerlab.gradflow.inspection.text import after, decimal, tens

    rows = [
        [
            remedy["name"],
            "could not be tried" if remedy["verdict_after"] is None else remedy["verdict_after"]["kind"],
            decimal(tens(remedy["log_factor_before"])),
            after(remedy),
        ]
        for remedy in tried
    ]
    title = (
        "remedies, each tried on a copy: log₁₀ of the least (or greatest) gradient relative to the output's"
    )
    return title, ["remedy", "then", "before", "after"], rows


def _through_time(found: Record) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows of the recurrent layers."""
    from layerlab.gradflow.inspection.text import decimal, horizon, last

    rows = [
        [
            layer["label"],
            str(layer["steps"] - 1),
            decimal(last(layer["log_sigma_max"]["median"])),
            *(decimal(last(bound["log"])) for bound in layer["bounds"]),
            horizon(layer),
        ]
        for layer in found["layers"]
    ]
    columns = ["recurrent layer", "lags", "σ max", "≤ weights", "≤ gates", "≤ steps", "horizon"]
    return "through time: log₁₀ σ max of ∂s_t/∂s_1 at the last lag, and its bounds", columns, rows


def _room(shown: Mapping[str, Sequence[str]], width: int) -> int:
    """Characters that the other columns leave to the names of the layers; each has three of frame."""
    others = sum(max(len(name), *map(len, cells)) for name, cells in shown.items() if name != "layer")
    return width - others - 3 * len(shown) - 1


def _with_gaps(kept: Sequence[int], rows: list[list[str]]) -> list[list[str]]:
    """A row that says how many layers are left out, wherever some are."""
    found: list[list[str]] = []
    before = -1
    for position, row in zip(kept, rows, strict=True):
        if (missing := position - before - 1) > 0:
            found.append([f"… {missing} more", *[""] * (len(row) - 1)])
        found.append(row)
        before = position
    return found
