"""``layerlab codebook``: almost orthogonal vectors, made or inspected, with a certificate of their coherence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from layerlab.cli import codebook_project
from layerlab.cli.options import AsJson, Report
from layerlab.cli.run_folder import begun, finished
from layerlab.errors import UserError

if TYPE_CHECKING:
    from layerlab.projection.bounds import Field

app = typer.Typer(
    help="Almost orthogonal vectors: make them, or inspect yours; project data. What comes out is certified.",
    epilog="Example: layerlab codebook make --dim 1024 --coherence 0.04 --out codes.npz",
    no_args_is_help=True,
)

_Seed = Annotated[int, typer.Option(min=0, help="Of random draws; the same seed gives the same vectors.")]


@app.command(
    epilog="Example: layerlab codebook make --dim 1024 --coherence 0.04 --out codes.npz\n\n"
    "In Python: numpy.load('codes.npz')['vectors'] (signs as +1 and -1, others as unit vectors)"
)
def make(
    dim: Annotated[int, typer.Option(help="Dimension of the vectors.")],
    count: Annotated[
        int | None, typer.Option(help="How many. Default: the most that a construction has at the coherence.")
    ] = None,
    coherence: Annotated[
        float | None,
        typer.Option(help="Largest absolute cosine allowed. Default: the least that a construction has."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Where to write them. Without it nothing is written."),
    ] = None,
    field: Annotated[str, typer.Option(help="real or complex.")] = "real",
    construction: Annotated[
        str | None,
        typer.Option(
            help="In place of the choice: orthonormal, simplex, plane, kerdock, quadratic-signs, random-signs,"
            " optimised-frame, random-lines or document (the course document's proof, run)."
        ),
    ] = None,
    seed: _Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Make almost orthogonal vectors, by the construction that suits, with a certificate of their coherence.

    What no vectors can have is refused with the bound that excludes it; exit status 1.
    """
    from layerlab.cli import progress
    from layerlab.cli.codebook_table import print_codebook
    from layerlab.cli.output import print_json, say
    from layerlab.lab.memory import size
    from layerlab.projection.archive import check_name, write
    from layerlab.projection.codebooks import ImpossibleError, OutOfReachError, codebook

    if out is not None:
        check_name(out)
    try:
        with progress.share(f"codebook of dimension {dim}") as tell:
            found = codebook(
                dim,
                count,
                coherence,
                cast("Field", field),
                seed,
                construction=construction,
                progress=tell,
            )
    except (ImpossibleError, OutOfReachError) as error:
        # Not a mistake of the user's: the answer is no.
        say(str(error))
        raise typer.Exit(1) from None
    record: dict[str, Any] = {**found.to_dict(), "seed": seed}
    if out is not None:
        write(out, found.made, record)
        record["out"], record["bytes"] = str(out), out.stat().st_size
    if as_json:
        print_json(record)
        return
    print_codebook(record)
    if out is not None:
        say(f"written: {out} ({size(record['bytes'])})")
    else:
        say("nothing is written; keep the vectors with --out codes.npz")


@app.command(
    epilog="Example: layerlab codebook inspect codes.npz --report\n\n"
    "Features of a layer: layerlab codebook inspect model.safetensors --array fc1.weight --columns"
)
def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Vectors, one a row: .npz, .npy, .safetensors or .csv.")
    ],
    array: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which array of the file; by default the only table in it."),
    ] = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="The vectors are the columns, as in a weight matrix.")
    ] = False,
    nearest: Annotated[int, typer.Option(min=1, help="Nearest pairs to list.")] = 10,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Measure so many vectors, drawn at random. Default: all, up to about a minute of work."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
    report: Report = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/codebook-FILE.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the coherence of vectors of yours: nearest pairs, cosines against random ones, and what would be better.

    The file is read without executing anything in it.
    """
    from layerlab.cli import progress
    from layerlab.cli.codebook_table import print_inspection
    from layerlab.cli.output import print_json, say
    from layerlab.projection.archive import read
    from layerlab.projection.inspection.measure import inspect as look

    folder = (out or Path("runs") / f"codebook-{file.stem}") if report or out is not None else None
    config = {
        "file": str(file),
        "array": array,
        "columns": columns,
        "nearest": nearest,
        "rows": rows,
        "seed": seed,
    }
    with begun(folder, "codebook-inspection", config) as run:
        stored = read(file, array, columns=columns)
        with progress.share(f"vectors of {file.name}") as tell:
            try:
                found = look(stored.vectors, nearest=nearest, rows=rows, seed=seed, progress=tell)
            except UserError as error:
                # Which vector is wrong is known there, and here of which file.
                raise error if error.file else UserError(str(error), file=file) from None
        record: dict[str, Any] = {
            "file": str(file),
            "array": stored.name,
            **found.to_dict(),
            "made_as": stored.record,
        }
        if run is not None:
            from layerlab.projection.inspection.page import inspection_page

            record |= finished(run, record, inspection_page)
    if as_json:
        print_json(record)
        return
    print_inspection(record)
    if "report" in record:
        say(f"report: {record['report']}")


app.command(epilog=codebook_project.EPILOG)(codebook_project.project)
