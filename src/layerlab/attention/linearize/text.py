"""The record of a linearization in words: what the terminal and the page share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

COLUMNS = ("attention", "tokens", "by", "faster", "predicted", "measured", "held out", "zeroed")


def percent(share: float | None) -> str:
    """A relative error in per cent: two decimals, one from 10 % on, one digit below 0.005 %.

    >>> percent(0.01234), percent(0.5), percent(1e-7), percent(None)
    ('1.23 %', '50.0 %', '0.00001 %', '')
    """
    if share is None:
        return ""
    value = 100 * share
    if value >= 10:
        return f"{value:.1f} %"
    return f"{value:.2f} %" if value >= 0.005 else f"{value:.1g} %" if value >= 1e-4 else f"{value:.5f} %"


def title(record: Record) -> str:
    """Model, size and inputs."""
    inputs = ", ".join(" × ".join(map(str, given["shape"])) for given in record["inputs"])
    count = len(record["sites"])
    return (
        f"{record['model']}, {record['parameters']:,} parameters, {record['dtype']}; input {inputs}: "
        f"{count} attention{'s' if count > 1 else ''}; largest error {percent(record['max_error'])}"
    )


def rows(record: Record) -> list[list[str]]:
    """A row for each attention; those that are exchanged are marked with ▸."""
    found = []
    for site in record["sites"]:
        name = site["mechanism"]
        ratio = None if name is None else site["speeds"][name]["ratio"]
        tokens = f"{site['queries']:,}" + ("" if site["queries"] == site["keys"] else f" to {site['keys']:,}")
        found.append(
            [
                f"{'▸ ' if site['chosen'] else ''}{site['site']}",
                tokens,
                name or "",
                "" if ratio is None else f"{ratio:.1f} times",
                "" if name is None else percent(site["predicted"][name]),
                percent(site["measured"]),
                percent(site["held_out"]),
                percent(site["zeroed"]),
            ]
        )
    return found


def remarks(record: Record) -> list[str]:
    """What a reader must know besides the table."""
    found = [
        f"{site['site']} is kept: {site['why_not']}"
        for site in record["sites"]
        if site["why_not"] is not None
    ]
    for site in record["sites"]:
        if site["zeroed"] is not None and site["zeroed"] <= record["max_error"]:
            found.append(
                f"{site['site']} hardly matters on these inputs: with an output of 0 the error is "
                f"{percent(site['zeroed'])}, so a small error of its exchange shows little"
            )
        fit = site["fit"]
        if fit is not None:
            found.append(
                f"{site['site']}: the map was fitted in {fit['steps']} steps, {fit['seconds']:.0f} s; divergence from "
                f"the softmax weights {fit['before']:.3g} before, {fit['after']:.3g} after"
            )
    found += [
        f"not seen: {unseen['module']} ({unseen['kind']}): {unseen['why']}" for unseen in record["unseen"]
    ]
    return [*found, *record["notes"]]


def verdict(record: Record) -> str:
    """What came of it, in one sentence."""
    if record["refused"] is not None:
        return f"refused, nothing is written: {record['refused']}"
    whole, chosen = record["whole"], sum(site["chosen"] for site in record["sites"])
    held = "" if whole["held_out"] is None else f", {percent(whole['held_out'])} on inputs held out"
    return (
        f"{chosen} of {len(record['sites'])} attentions exchanged: error of the output predicted "
        f"{percent(whole['predicted'])}, measured {percent(whole['measured'])}{held}; with an output of 0 in their "
        f"place it would be {percent(whole['zeroed'])}. A pass takes {seconds(whole['seconds_after'])}, before "
        f"{seconds(whole['seconds_before'])}: {whole['seconds_before'] / whole['seconds_after']:.2f} times as fast"
    )


def seconds(value: float) -> str:
    """A time in a unit that suits it.

    >>> seconds(0.0123), seconds(2.0)
    ('12.3 ms', '2.00 s')
    """
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
