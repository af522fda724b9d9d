"""Options that mean the same in every command, and how a list is read from one."""

from __future__ import annotations

from typing import Annotated

import typer

On = Annotated[
    str,
    typer.Option(
        metavar="WHERE",
        help="local: processes of this machine. ray: a Ray started for this run, or the cluster of RAY_ADDRESS. "
        "ray://HOST:PORT: a cluster. Needs pip install 'layerlab\\[ray]'.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Report = Annotated[bool, typer.Option("--report", help="Write report.html with the figures.")]


def listed(text: str) -> list[str]:
    """The names in an option that takes several, separated by commas.

    >>> listed("gcn, gat,,")
    ['gcn', 'gat']
    """
    return [name for part in text.split(",") if (name := part.strip())]
