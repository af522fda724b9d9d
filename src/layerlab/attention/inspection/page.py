"""A model's attention on a page: verdict, ranking, figures, heads. Draws the record, computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerlab.attention.crossover import rounded
from layerlab.attention.inspection import text
from layerlab.attention.inspection.ranking import percent
from layerlab.attention.inspection.text import Record
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts
from layerlab.lab.report.heatmap import heat_map
from layerlab.lab.report.page import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
)
from layerlab.lab.report.race import environment_section
from layerlab.lab.report.scatter import scatter
from layerlab.lab.report.words import plain, unbroken

# Curves that can be told apart in one figure.
_CURVES = 6

# Below this a predicted error is rounding, and would press everything else together.
_ROUNDING = 1e-6


def attention_page(run: RunFolder) -> Page:
    """The page of one inspection of a model's attention, drawn from its record."""
    record: Record = run.meta["results"]
    sections = [
        Section("What can be replaced", "ranking", _ranking(record)),
        Section("Speed on this machine", "speed", _speed(record)),
        Section("Rank", "rank", _rank(record)),
        Section("Entropy and locality", "entropy", _entropy(record)),
        Section("Heads", "heads", _head_tables(record)),
        Section("Notes", "notes", [Bullets([plain(_sentence(note)) for note in _notes(record)])]),
        environment_section(run.meta),
    ]
    return Page(
        f"Attention in {record['model']}",
        f"`{record['subject']}`: {text.title(record).partition(', ')[2]}; measured in {record['seconds']:.0f} s.",
        [
            Callout("note", plain(_sentence(text.verdict(record)))),
            KeyFigures(_key_figures(record)),
        ],
        [section for section in sections if section.blocks],
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _code(name: str) -> str:
    return f"`{name.replace('`', chr(0x2BC))}`"


def _notes(record: Record) -> list[str]:
    return [*(text.unseen(found) for found in record["unseen"]), *record["notes"]]


def _key_figures(record: Record) -> list[KeyFigure]:
    sites = record["sites"]
    good = sum(site["advice"]["standing"] == "replace" for site in sites)
    limit = unbroken(percent(record["max_error"]))
    found = [KeyFigure(f"{good} of {len(sites)}", f"layers can be replaced: faster, and within {limit}")]
    pays = [c for c in record["crossovers"] if c["length"] is not None]
    if record["together"] is not None:
        count = len(record["chosen"])
        words = f"of {count} swaps together" if count > 1 else "of that swap"
        found.append(KeyFigure(unbroken(percent(record["together"])), f"predicted error {words}"))
    elif pays:
        soonest = min(pays, key=lambda c: c["length"])
        found.append(
            KeyFigure(f"{rounded(soonest['length']):,}", "tokens, from which it pays", soonest["mechanism"])
        )
    ranks = [(rank, site) for site in sites if (rank := text.mean(site, "rank")) is not None]
    if ranks:
        rank, site = min(ranks, key=lambda pair: pair[0])
        size = min(site["queries"], site["keys"])
        found.append(KeyFigure(f"{rank:.0f} of {size}", "least mean rank of a layer", site["site"]))
    shares = [share for site in sites if (share := text.mean(site, "entropy_share")) is not None]
    if shares:
        mean = sum(shares) / len(shares)
        found.append(KeyFigure(f"{mean:.2f}", "mean entropy, of the possible", "1 is uniform"))
    return found


def _ranking(record: Record) -> list[Block]:
    rows: list[list[str | Cell]] = []
    for site in text.ranking(record):
        candidate = text.meant(site)
        error = candidate["error"] if candidate else None
        rows.append(
            [
                _code(site["site"]),
                text.STANDINGS[site["advice"]["standing"]],
                candidate["mechanism"] if candidate else "–",
                Cell(percent(error), error),
                Cell(text.speed(candidate), candidate["speed"] if candidate else None),
                Cell(text.pays_from(candidate), candidate["pays_from"] if candidate else None),
            ]
        )
    blocks: list[Block] = [
        Table(
            "The layers, those that are best replaced first",
            [
                *(Column(name) for name in ("layer", "advice", "by")),
                *(Column(name, "right") for name in ("error", "speed", "pays from")),
            ],
            rows,
            [
                "Error: of the model's output, relative, predicted to first order for this swap alone. Speed: "
                "softmax's time over that of the swap, attention alone, at the model's own length. Pays from: the "
                "length in tokens from which the swap is faster on this machine. Nothing is fitted here; "
                "`layerlab model linearize` fits feature maps to a layer and predicts again."
            ],
        )
    ]
    if (figure := _error_against_speed(record)) is not None:
        blocks.append(figure)
    blocks.append(_candidates(record))
    return blocks


def _error_against_speed(record: Record) -> Figure | None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for site in record["sites"]:
        for candidate in site["candidates"]:
            if candidate["error"] is not None and candidate["speed"] is not None:
                groups.setdefault(candidate["mechanism"], []).append(
                    {"x": candidate["speed"], "y": max(candidate["error"], _ROUNDING), "label": site["site"]}
                )
    if not groups:
        return None
    return scatter(
        [{"label": name, "points": points} for name, points in groups.items()],
        "speed, times softmax",
        "predicted error of the output",
        title="Predicted error against speed",
        caption="One point for each layer and mechanism. What is right of 1 and below the limit can be swapped: "
        "faster, and near enough. Errors below a millionth are drawn at it.",
        lines=[
            {"label": "as fast as softmax", "x": 1.0},
            {
                "label": f"error allowed, {percent(record['max_error'])}",
                "y": max(record["max_error"], _ROUNDING),
            },
        ],
    )


def _candidates(record: Record) -> Table:
    names = [candidate["mechanism"] for candidate in record["sites"][0]["candidates"]]
    rows: list[list[str | Cell]] = []
    reasons: dict[str, str] = {}
    for site in record["sites"]:
        row: list[str | Cell] = [_code(site["site"])]
        for candidate in site["candidates"]:
            if candidate["reason"] is not None:
                reasons.setdefault(candidate["mechanism"], candidate["reason"])
                row.append(Cell("cannot"))
            else:
                row.append(Cell(percent(candidate["error"]), candidate["error"]))
        rows.append(row)
    notes = ["To first order; each swap alone."]
    notes += [plain(_sentence(reason)) for reason in reasons.values()]
    return Table(
        "Predicted error of the model's output for every swap",
        [Column("layer"), *(Column(name, "right") for name in names)],
        rows,
        notes,
    )


def _speed(record: Record) -> list[Block]:
    blocks: list[Block] = []
    own = sorted({site["keys"] for site in record["sites"]})
    for words, found in text.by_setting(record):
        curves = [
            {
                "label": entry["mechanism"],
                "x": entry["lengths"],
                "mean": [a / b for a, b in zip(entry["softmax"], entry["other"], strict=True)],
            }
            for entry in found
            if entry["lengths"]
        ]
        if not curves:
            continue
        blocks.append(
            charts.line_chart(
                curves,
                "times as fast as softmax",
                xlabel="tokens",
                title="Speed against length",
                caption=f"{words}: time of torch's fused softmax attention over that of each mechanism, measured here, "
                "the least of repeated runs. Above 1 a mechanism pays.",
                decimals=2,
                scale="log",
                xscale="log",
                marks=[{"label": f"this model, {n:,} tokens", "x": n} for n in own[:3]],
            )
        )
        blocks.append(Bullets([_told(entry) for entry in found]))
    if blocks and (warning := text.busy(record)) is not None:
        blocks.append(Callout("note", _sentence(warning)))
    return blocks


def _told(found: Record) -> str:
    """The answer, with the mechanism's name set as a name."""
    name = found["mechanism"]
    return f"`{name}`{found['sentence'].removeprefix(name)}."


def _some(sites: Sequence[Record]) -> list[Record]:
    """As many sites as curves can be told apart, evenly spread, the first and the last among them."""
    if len(sites) <= _CURVES:
        return list(sites)
    return [sites[round(i * (len(sites) - 1) / (_CURVES - 1))] for i in range(_CURVES)]


def _rank(record: Record) -> list[Block]:
    sites = [site for site in record["sites"] if text.mean(site, "rank") is not None]
    if not sites:
        return [Text("No singular values were computed: see the notes.")]
    left_out = f" {_CURVES} of {len(sites)} layers." if len(sites) > _CURVES else ""
    blocks: list[Block] = [
        _by_head(
            record,
            "rank",
            float(max(2, *(min(site["queries"], site["keys"]) for site in record["sites"]))),
            "Numerical rank by layer and head",
            "The fewest singular values with 99 per cent of the sum of squares; the colours go up to n, the length. A "
            "mechanism of rank k does well where this is below k.",
            "numerical rank",
        )
    ]
    decay = _curves(sites, "decay", "indices")
    if decay:
        blocks.append(
            charts.line_chart(
                decay,
                "σ_k / σ_1",
                xlabel="k",
                title="Decay of the singular values",
                caption=f"Mean over the heads of a layer and the examples. A steep fall is a low rank.{left_out}",
                decimals=2,
                scale="log",
                xscale="log",
            )
        )
    floors = _curves(sites, "output_floor", "ranks")
    if floors:
        blocks.append(
            charts.line_chart(
                floors,
                "relative error of the layer's attention",
                xlabel="rank k",
                title="What a lower rank costs",
                caption="‖PV − P_k V‖ / ‖PV‖ with P_k the best approximation of rank k (Eckart and Young), mean over "
                f"the heads: the least that truncating the weights of a layer to rank k costs there.{left_out}",
                decimals=3,
                xscale="log",
            )
        )
    return blocks


def _curves(sites: Sequence[Record], measure: str, places: str) -> list[dict[str, Any]]:
    """Mean over the heads of each site; nothing of rounding errors."""
    found = []
    for site in _some(sites):
        rows = [head[measure] for head in site["heads"] if head[measure] is not None]
        means: list[float | None] = []
        for column in zip(*rows, strict=True):
            known = [value for value in column if value is not None]
            mean = sum(known) / len(known) if known else None
            means.append(mean if mean is not None and mean > _ROUNDING else None)
        if any(value is not None for value in means):
            found.append({"label": site["site"], "x": site[places], "mean": means})
    return found


def _by_head(record: Record, measure: str, top: float, title: str, caption: str, unit: str) -> Figure:
    sites = record["sites"]
    most = max(site["head_count"] for site in sites)
    values = [
        [
            site["heads"][h][measure]["mean"]
            if h < site["head_count"] and site["heads"][h][measure]
            else None
            for h in range(most)
        ]
        for site in sites
    ]
    return heat_map(
        values,
        rows=[site["site"] for site in sites],
        columns=[str(h + 1) for h in range(most)],
        title=title,
        caption=caption,
        unit=unit,
        xlabel="head",
        # The whole range: small differences are not to look large.
        limits=(0.0, top) if top <= 1 else (1.0, top),
        scale="linear" if top <= 1 else "log",
    )


def _entropy(record: Record) -> list[Block]:
    blocks: list[Block] = []
    if any(text.mean(site, "entropy_share") is not None for site in record["sites"]):
        blocks.append(
            _by_head(
                record,
                "entropy_share",
                1.0,
                "Entropy by layer and head",
                "Mean over the queries of the entropy of their weights, as a share of the logarithm of the number of "
                "keys they see: 1 is uniform, 0 is one key.",
                "entropy, of the possible",
            )
        )
    if any(text.mean(site, "near") is not None for site in record["sites"]):
        blocks.append(
            _by_head(
                record,
                "near",
                1.0,
                "Locality by layer and head",
                "Share of the weight on keys at most 8 tokens away: a head near 1 looks at its neighbours only.",
                "share of the weight within 8 tokens",
            )
        )
    return blocks


_SPREAD = (
    ("entropy_share", "entropy", 3),
    ("entropy", "nats", 2),
    ("distance", "distance", 1),
    ("near", "near", 3),
    ("sink", "first", 3),
)
_RANKS = (("effective_rank", "eff. rank", 1), ("rank", "rank 99 %", 1))


def _head_tables(record: Record) -> list[Block]:
    shown = sorted({k for site in record["sites"] for k in site["ranks"] if k in (1, 4, 16, 64)})
    spread: list[list[str | Cell]] = []
    ranks: list[list[str | Cell]] = []
    for site in record["sites"]:
        for number, head in enumerate(site["heads"]):
            name: list[str | Cell] = [_code(site["site"]), Cell(str(number + 1), number + 1)]
            several = site["examples"] > 1
            spread.append([*name, *(_measured(head[key], digits, several) for key, _, digits in _SPREAD)])
            floors = [_floor(site, head, k) for k in shown]
            ranks.append(
                [*name, *(_measured(head[key], digits, several) for key, _, digits in _RANKS), *floors]
            )
    names = [Column("layer"), Column("head", "right")]
    return [
        Table(
            "Where every head looks: mean over the examples, ± their standard deviation",
            [*names, *(Column(label, "right") for _, label, _ in _SPREAD)],
            spread,
            [
                "Entropy: of the possible, and in nats. Distance: tokens between query and key, weighted. Near: weight "
                "within 8 tokens. First: weight on the first key."
            ],
        ),
        Table(
            "The rank of every head's weights, and what less would cost",
            [
                *names,
                *(Column(label, "right") for _, label, _ in _RANKS),
                *(Column(f"at {k}", "right") for k in shown),
            ],
            ranks,
            [
                "Eff. rank: exp of the entropy of the singular values (Roy and Vetterli 2007). Rank 99 %: of their "
                "squares. At k: the least relative error of P, and of PV, at rank k (Eckart and Young)."
            ],
        ),
    ]


def _measured(entry: Record | None, digits: int, several: bool) -> Cell:
    spread = f" ± {entry['sd']:.{digits}f}" if entry and several else ""
    return Cell(f"{text.measured(entry, digits)}{spread}", entry["mean"] if entry else None)


def _floor(site: Record, head: Record, k: int) -> Cell:
    if head["floor"] is None or k not in site["ranks"]:
        return Cell("–")
    place = site["ranks"].index(k)
    own, output = head["floor"][place], head["output_floor"][place]
    return Cell(f"{own:.2f}, {output:.2f}" if output is not None else f"{own:.2f}, –", own)
