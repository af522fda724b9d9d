"""An attention report on a page: findings, spread, correlations, trusted edges. Draws the record, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerlab.graph.attention_measures import SHARES
from layerlab.lab.records import RunFolder
from layerlab.lab.report import charts, figures
from layerlab.lab.report.page import Block, Bullets, Cell, Column, KeyFigure, KeyFigures, Page, Section, Table
from layerlab.lab.report.race import environment_section, number

Record = Mapping[str, Any]

# Curves that can be told apart in one figure.
_CURVES = 8


def heads_of(record: Record) -> list[tuple[str, Record]]:
    """Every head with its name, such as "1.3": head 3 of layer 1."""
    return [
        (f"{layer['layer']}.{head['head']}", head) for layer in record["layers"] for head in layer["heads"]
    ]


def attention_page(run: RunFolder) -> Page:
    """The page of one attention report, drawn from its record."""
    record: Record = run.meta["results"]
    lead: list[Block] = [
        KeyFigures(_key_figures(record)),
        Bullets([f"{text[:1].upper()}{text[1:]}." for text in record["findings"]]),
    ]
    sections = [
        Section("How far from uniform", "uniform", _spread(record)),
        Section("What the weight goes along with", "correlations", _correlations(record)),
        Section("Trusted edges", "edges", _edges(record)),
    ]
    if record["notes"]:
        sections.append(Section("Notes", "notes", [Bullets(record["notes"])]))
    sections.append(environment_section(run.meta))
    return Page(
        f"The attention of a GAT on {record['data']}",
        f"{record['nodes']:,} nodes, {record['measured']:,} of them with neighbours to choose from; "
        f"{record['edges']:,} messages a layer.",
        lead,
        [section for section in sections if section.blocks],
    )


def _key_figures(record: Record) -> list[KeyFigure]:
    found = []
    heads = [head for _, head in heads_of(record) if head["entropy"] is not None]
    for name, form, label in (
        ("entropy", "{:.3f}", "mean entropy of a head, of the possible (1 is uniform)"),
        ("moved", "{:.1%}", "of the weight lies elsewhere than a mean puts it"),
    ):
        if heads:
            mean = sum(head[name] for head in heads) / len(heads)
            found.append(KeyFigure(form.format(mean).replace("%", " %"), label))
    change = record["uniform"]
    found.append(
        KeyFigure(f"{100 * change['unchanged']:.1f} %", "of the predictions stay with a mean instead")
    )
    if change["accuracy"] is not None:
        found.append(
            KeyFigure(
                f"{100 * record['accuracy']:.1f} %",
                f"{record['part']} accuracy",
                f"{100 * change['accuracy']:.1f} % with a mean in every layer",
            )
        )
    return found


def _spread(record: Record) -> list[Block]:
    blocks: list[Block] = []
    for layer in record["layers"]:
        heads = sorted((head for head in layer["heads"] if head["quantiles"]), key=lambda h: h["entropy"])
        drawn = sorted(heads[:_CURVES], key=lambda head: head["head"])
        if not drawn:
            continue
        left_out = f" The {_CURVES} heads furthest from uniform." * (len(heads) > _CURVES)
        curves = [
            {
                "label": f"head {head['head']}",
                "x": [100 * share for share in SHARES],
                "mean": head["quantiles"],
            }
            for head in drawn
        ]
        blocks.append(
            charts.line_chart(
                curves,
                "entropy, of the possible",
                xlabel="per cent of the nodes",
                title=f"Entropy of the nodes' attention in layer {layer['layer']}",
                caption=f"Layer {layer['layer']}: so many per cent of the nodes have at most this entropy. 1 is a "
                f"mean over the neighbours, 0 is all weight on one of them.{left_out}",
                decimals=3,
            )
        )
    columns = ("Head", "entropy", "KL from uniform, nats", "weight moved", "largest", "self-loop", "uniform")
    rows: list[Sequence[str | Cell]] = [
        [
            name,
            *(number(head[key], 4) for key in ("entropy", "divergence")),
            *(number(head[key], 3) for key in ("moved", "largest", "itself", "uniform")),
        ]
        for name, head in heads_of(record)
    ]
    blocks.append(
        Table(
            "Spread of the coefficients: means over the nodes with a choice; 1.3 is head 3 of layer 1",
            [Column(name, "right" if position else "left") for position, name in enumerate(columns)],
            rows,
            [
                "Weight moved: total variation from uniform. Largest: a node's largest coefficient. Self-loop: the "
                "coefficient of its own message. Uniform: what a mean would give to each."
            ],
        )
    )
    blocks.append(_replaced(record))
    return blocks


def _replaced(record: Record) -> Table:
    """Accuracy and predictions with means in place of attention."""
    part = record["part"]
    entries = [(f"layer {layer['layer']}", layer["uniform"]) for layer in record["layers"]]
    entries.append(("every layer", record["uniform"]))
    scored = [] if part is None else [Column(f"{part} accuracy, per cent", "right")]

    def row(name: str, unchanged: float, accuracy: float | None) -> list[str | Cell]:
        scores = [] if accuracy is None else [number(100 * accuracy, 1)]
        return [name, number(100 * unchanged, 1), *scores]

    return Table(
        "With a mean in place of attention, all weights as trained",
        [Column("A mean in"), Column("predictions that stay, per cent", "right"), *scored],
        [
            row("no layer", 1.0, record["accuracy"]),
            *(row(name, entry["unchanged"], entry["accuracy"]) for name, entry in entries),
        ],
    )


def _correlations(record: Record) -> list[Block]:
    blocks: list[Block] = []
    for key, what in (("agreement", "agreement of the labels"), ("degree", "the sender's degree")):
        known = [
            {"label": f"head {name}", "mean": head[key]["value"], **_ends(head[key])}
            for name, head in heads_of(record)
            if head[key] is not None and head[key]["low"] is not None
        ]
        if known:
            blocks.append(
                figures.paired_differences(
                    known,
                    f"rank correlation of the weight with {what}",
                    title=f"The weight and {what}",
                    caption="Spearman's correlation of coefficient times neighbours, over the edges between different "
                    "nodes, with its 95 per cent interval from a bootstrap over nodes; hollow where it holds zero. Of "
                    "many heads, one in twenty would be filled by chance.",
                    decimals=2,
                )
            )
    rows: list[Sequence[str | Cell]] = [
        [name, number(head["agreeing"], 3), number(head["disagreeing"], 3)]
        for name, head in heads_of(record)
        if head["agreement"] is not None
    ]
    if rows:
        columns = [Column("Head"), Column("within a class", "right"), Column("between classes", "right")]
        blocks.append(Table("Mean weight of an edge, times what a mean would give it", columns, rows))
    return blocks


def _ends(found: Record) -> dict[str, float]:
    return {"low": found["low"], "high": found["high"]}


def _edges(record: Record) -> list[Block]:
    columns = [
        *(Column(name) for name in ("Sender and class", "Receiver and class")),
        Column("coefficient", "right"),
        Column("times uniform", "right"),
    ]
    blocks: list[Block] = []
    for layer in record["layers"]:
        for key, word in (("most", "most"), ("least", "least")):
            rows: list[Sequence[str | Cell]] = [
                [
                    *(f"{_plain(edge[end])} {_plain(edge[f'{end}_class'])}" for end in ("source", "target")),
                    number(edge["coefficient"], 3),
                    number(edge["lift"], 2),
                ]
                for edge in layer[key]
            ]
            if rows:
                blocks.append(
                    Table(
                        f"The edges that layer {layer['layer']} trusts {word}: mean over its heads, against uniform",
                        columns,
                        rows,
                    )
                )
    return blocks


def _plain(text: str | None) -> str:
    """A user's name, set as code so that nothing in it is read as a mark; a dash where there is none."""
    return "–" if text is None else f"`{text.replace('`', chr(0x2BC))}`"
