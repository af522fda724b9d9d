"""``layerlab codebook project``: data in fewer dimensions, with its distances measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli.options import AsJson
from layerlab.cli.run_folder import begun, finished

EPILOG = (
    "Example: layerlab codebook project data.npy --eps 0.2 --out small.npy --report\n\n"
    "Without data of your own: layerlab codebook project digits --eps 0.5 --dim 48"
)


def project(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Points as rows: .npy, .npz, .csv or .safetensors; or digits (1,797 x 64)."
        ),
    ],
    eps: Annotated[
        float, typer.Option(help="Squared distances are to stay within a factor 1 - EPS to 1 + EPS.")
    ] = 0.1,
    failure: Annotated[
        float | None,
        typer.Option(
            help="Probability that some pair may be beyond it. Default: 1/8, never more dimensions than scikit-learn's."
        ),
    ] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Dimension. Default: what EPS, FAILURE and the points need.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--map", metavar="MAP", help="gaussian, rademacher, sparse or hadamard (fast).")
    ] = "gaussian",
    density: Annotated[
        str, typer.Option(help="Of a sparse map: share of entries other than 0, or li (1/√d).")
    ] = "1/3",
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many maps at most, while one fails. Default: 10; 1 with --dim."),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs to measure. Default: all, up to 50 million, else a million."),
    ] = None,
    array: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which array of an archive holds the points.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the maps and of sampled pairs.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the projected points: .npy or .npz.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html with the figures, in runs/project-DATA.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Project points to fewer dimensions by a random map, and measure what that did to their distances.

    Draws again while some pair is off by more than EPS. Exit status 1: no map that was drawn kept all measured pairs.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, say
    from layerlab.errors import UserError
    from layerlab.projection.projecting.files import read_points, write_points
    from layerlab.projection.projecting.measure import Settings
    from layerlab.projection.projecting.measure import project as run_project
    from layerlab.projection.projecting.page import projection_page
    from layerlab.projection.tails import KINDS

    if kind not in KINDS:
        raise UserError(f"expected --map to be one of {', '.join(KINDS)}, got {kind!r}")
    settings = Settings(
        eps=eps,
        failure=failure,
        dim=dim,
        kind=kind,
        density=_density(density),
        draws=draws,
        pairs=pairs,
        seed=seed,
    )
    if out is not None and out.suffix not in (".npy", ".npz"):
        raise UserError("projected points are written as .npy or .npz; name it so", file=out)
    name = Path(data).name
    folder = Path("runs") / f"project-{name}" if report else None
    with begun(folder, "codebook-project", {"data": name, **asdict(settings)}) as run:
        points = read_points(data, array)
        with progress.share(f"projecting {name}") as tell:
            found = run_project(points, settings, tell)
        record = {"data": name, **found.to_dict()}
        if out is not None:
            write_points(out, found.values, record)
            record["out"] = str(out)
        if run is not None:
            record |= finished(run, record, projection_page)
    if as_json:
        print_json(record)
    else:
        _print(record)
        for key, words in (("out", "points"), ("report", "report")):
            if key in record:
                say(f"{words}: {record[key]}")
    if not found.distortion.within:
        raise typer.Exit(1)


def _density(given: str) -> Any:
    from layerlab.errors import UserError

    if given == "li":
        return "li"
    try:
        above, _, below = given.partition("/")
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 < value <= 1:
        raise UserError(f"expected --density as a number above 0, at most 1, like 1/3, or li, got {given!r}")
    return value


def _print(record: dict[str, Any]) -> None:
    from rich.text import Text

    from layerlab.cli.output import console, print_table
    from layerlab.projection.projecting.page import probability, stated

    found = record["distortion"]
    title = (
        f"{record['data']}: {record['points']:,} points, {record['dim_in']:,} to {record['dim']:,} dimensions"
    )
    rows = [
        ["map", f"{record['kind']}, seed {record['seed']}, {record['draws']} drawn"],
        ["failure probability of one map", f"{probability(record)} ({stated(record)})"],
        ["it rests on", record["basis"]],
        ["pairs measured", f"{found['pairs']:,} ({'all' if found['exhaustive'] else 'a sample'})"],
        ["squared distances, after over before", f"{found['lowest']:.4f} to {found['highest']:.4f}"],
        ["largest distortion", f"{found['largest']:.4f} (rows {found['pair'][0]} and {found['pair'][1]})"],
        [f"pairs beyond {record['eps']:g}", _share(found)],
        ["expected of a Gaussian map", f"{record['pair_failure']:.3%}"],
        ["seconds for one projection", f"{record['seconds']:.3g}"],
    ]
    print_table(title, ["measure", "value"], rows, left=2)
    print_table(
        f"dimensions that {record['points']:,} points need for eps {record['eps']:g}",
        ["formula", "dimensions", "promised failure", "exact failure"],
        [
            [
                # The formula itself is on the page and in the manual.
                entry["name"].partition(":")[0],
                f"{entry['dim']:,}",
                "none" if entry["promise"] is None else f"{entry['promise']:.4g}",
                "1" if entry["failure"] >= 1 else f"{entry['failure']:.2g}",
            ]
            for entry in record["formulas"]
        ],
    )
    terminal = console()
    terminal.print(
        Text("verdict: ", style=f"bold {'green' if found['within'] else 'yellow'}") + Text(record["verdict"])
    )
    for note in record["notes"]:
        terminal.print(Text(f"  note: {note}"))


def _share(found: dict[str, Any]) -> str:
    if found["exhaustive"]:
        return f"{found['beyond']:,} ({found['share']:.3%})"
    return f"{found['beyond']:,} of the sample; of all {found['low']:.2g} to {found['high']:.2g}"
