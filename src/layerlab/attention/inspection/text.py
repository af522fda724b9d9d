"""The numbers of an attention inspection as people read them: what its tables in the terminal and its page share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from layerlab.attention.crossover import rounded
from layerlab.attention.inspection.ranking import percent

Record = Mapping[str, Any]

# Above this share of the cores other processes are likely to have taken turns with ours.
_BUSY = 1.5

STANDINGS = {
    "replace": "replace",
    "too short": "keep: too short",
    "too far off": "keep: error",
    "not predicted": "keep: unknown",
    "not possible": "keep: no other",
}


def mean(site: Record, measure: str) -> float | None:
    """Mean of a measure over the heads; None where none has it.

    >>> mean({"heads": [{"rank": {"mean": 3.0}}, {"rank": {"mean": 5.0}}, {"rank": None}]}, "rank")
    4.0
    """
    known = _known(site, measure)
    return sum(known) / len(known) if known else None


def spanned(site: Record, measure: str, digits: int) -> str:
    """The least and the most of the heads, with so many decimals; one number where they agree.

    >>> spanned({"heads": [{"rank": {"mean": 3.0}}, {"rank": {"mean": 5.2}}]}, "rank", 0)
    '3–5'
    """
    known = _known(site, measure)
    if not known:
        return "–"
    low, high = (f"{value:.{digits}f}" for value in (min(known), max(known)))
    return low if low == high else f"{low}–{high}"


def measured(entry: Record | None, digits: int) -> str:
    """One head's mean over the examples.

    >>> measured({"mean": 0.512, "sd": 0.01}, 2), measured(None, 2)
    ('0.51', '–')
    """
    return "–" if entry is None else f"{entry['mean']:.{digits}f}"


def tokens(site: Record) -> str:
    """``64``, or ``64 × 128`` for queries and keys of different number."""
    return str(site["keys"]) if site["queries"] == site["keys"] else f"{site['queries']} × {site['keys']}"


def meant(site: Record) -> Record | None:
    """The candidate that the advice is about."""
    name = site["advice"]["mechanism"]
    return next((c for c in site["candidates"] if c["mechanism"] == name), None)


def ranking(record: Record) -> list[Record]:
    """The sites, best replaced first."""
    by_name = {site["site"]: site for site in record["sites"]}
    return [by_name[name] for name in record["ranking"]]


def speed(candidate: Record | None) -> str:
    """``2.3 ×``; a dash where it was not timed.

    >>> speed({"speed": 2.345}), speed({"speed": None})
    ('2.3 ×', '–')
    """
    if candidate is None or candidate["speed"] is None:
        return "–"
    value = candidate["speed"]
    return f"{value:.0f} ×" if value >= 10 else f"{value:.2g} ×"


def pays_from(candidate: Record | None) -> str:
    """The crossover length, or how far it was looked for.

    >>> pays_from({"pays_from": 900, "timed_to": 4096}), pays_from({"pays_from": None, "timed_to": 4096})
    ('900', 'not to 4096')
    """
    if candidate is None or candidate["timed_to"] is None:
        return "–"
    return (
        f"not to {candidate['timed_to']}"
        if candidate["pays_from"] is None
        else str(rounded(candidate["pays_from"]))
    )


def verdict(record: Record) -> str:
    """What the ranking comes to, in a sentence or two."""
    sites = ranking(record)
    good = [site for site in sites if site["advice"]["standing"] == "replace"]
    limit = percent(record["max_error"])
    if good:
        which = "all layers" if len(good) == len(sites) else f"{len(good)} of {len(sites)} layers"
        if len(good) == 1:
            return (
                f"{which} can be replaced within {limit}: {good[0]['site']}, {good[0]['advice']['sentence']}"
            )
        chosen = len(record["chosen"])
        if chosen == len(good):
            return f"{which} can be replaced within {limit}, all together: predicted {percent(record['together'])}"
        return (
            f"{which} can be replaced within {limit}, each alone; {chosen} of them together change the output by "
            f"{percent(record['together'])}, all by {percent(record['all_together'])}"
        )
    first = sites[0]["advice"]
    words = first["sentence"].removeprefix("keep softmax: ")
    if first["standing"] == "too far off":
        words += "; layerlab model linearize fits maps to a layer's own weights, which may come nearer"
    if len(sites) == 1:
        return f"keep softmax: {words}"
    return (
        f"keep softmax everywhere: nothing is both within {limit} and faster at these lengths; nearest to it is "
        f"{first['site']}: {words}"
    )


def setting(found: Record) -> str:
    """What a crossover was timed with.

    >>> setting({"setting": {"batch": 1, "heads": 8, "kv_heads": 2, "head_size": 64, "causal": True,
    ...     "dtype": "float32"}, "backward": False, "threads": 2})
    '8 heads of 64 (2 of keys), batch 1, causal, float32, forward, 2 threads'
    """
    made = found["setting"]
    groups = f" ({made['kv_heads']} of keys)" if made["kv_heads"] != made["heads"] else ""
    causal = ", causal" if made["causal"] else ""
    way = "forward and backward" if found["backward"] else "forward"
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    return (
        f"{made['heads']} heads of {made['head_size']}{groups}, batch {made['batch']}{causal}, {made['dtype']}, {way}, "
        f"{threads}"
    )


def busy(record: Record) -> str | None:
    """That other work went on while times were taken; None where none did.

    >>> busy({"load": 3.04}), busy({"load": 0.8})
    ('this machine was busy (load 3.0 a core): times, and from where a swap pays, are uncertain', None)
    """
    load = record["load"]
    if load is None or load < _BUSY:
        return None
    return f"this machine was busy (load {load:.1f} a core): times, and from where a swap pays, are uncertain"


def by_setting(record: Record) -> Iterator[tuple[str, list[Record]]]:
    """The crossovers, those of one setting together."""
    groups: dict[str, list[Record]] = {}
    for found in record["crossovers"]:
        groups.setdefault(setting(found), []).append(found)
    yield from groups.items()


def title(record: Record) -> str:
    """Model, mode, inputs, number of layers and heads."""
    inputs = ", ".join(" × ".join(map(str, given["shape"])) for given in record["inputs"])
    count, heads = len(record["sites"]), sum(site["head_count"] for site in record["sites"])
    return (
        f"{record['model']}, {record['parameters']:,} parameters, {record['mode']} mode, {record['dtype']}; input "
        f"{inputs}: {count} × attention, {heads} head{'s' if heads > 1 else ''}"
    )


def unseen(found: Record) -> str:
    """Attention that could not be watched, in a sentence."""
    place = f", {found['place']}" if found["place"] else ""
    return f"not seen: {found['module'] or 'the model'} ({found['kind']}{place}): {found['why']}"


def _known(site: Record, measure: str) -> Sequence[float]:
    return [head[measure]["mean"] for head in site["heads"] if head[measure] is not None]
