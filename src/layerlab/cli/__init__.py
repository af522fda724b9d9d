"""The command line: parses, calls, prints. Nothing is computed here and nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import NoReturn

import typer

from layerlab.cli import claims, codebook, data, estimator, graph, model, reproduce, segment
from layerlab.cli.output import answer, drop_output, fail, writing
from layerlab.errors import UserError

app = typer.Typer(
    name="layerlab",
    help="A workbench for neural-network architecture decisions: inspect, race, report.",
    epilog="Example: layerlab graph race cora --models gcn,gat,sgc,mlp --seeds 20",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(graph.app, name="graph")
app.add_typer(model.app, name="model")
app.add_typer(estimator.app, name="estimator")
app.add_typer(codebook.app, name="codebook")
app.add_typer(segment.app, name="segment")
app.add_typer(data.app, name="data")
app.add_typer(claims.app, name="claims")
app.command(name="reproduce", epilog=reproduce.EPILOG)(reproduce.reproduce)


def _version(value: bool) -> None:
    if value:
        from layerlab import __version__

        answer(f"layerlab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


# What a shell reports of a tool that the signal SIGPIPE ended (128 + 13), as it does when `head` has seen enough.
_READER_LEFT = 141


def main() -> None:
    """Entry point of the console script: a `UserError` becomes one line on standard error and status 2.

    Ctrl-C gives status 130; a reader that went away, such as ``head``, ends the command quietly with status 141.
    """
    # What Pillow thinks of odd metadata is no line for a user: pictures that it cannot read are told by their readers.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        try:
            with _help():
                app(prog_name="layerlab")
        finally:
            # Here, and not when the interpreter ends, which could only say so in a traceback.
            if sys.stdout is not None:
                with writing():
                    sys.stdout.flush()
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:
        _reader_left()
    except SystemExit as stop:
        # typer and rich make a status 1 of it.
        if isinstance(stop.__context__, BrokenPipeError):
            _reader_left()
        raise


@contextlib.contextmanager
def _help() -> Iterator[None]:
    """Help, which typer itself prints, is output like any other."""
    try:
        yield
    except OSError as error:
        if not any(
            frame.f_code.co_name == "format_help" for frame, _ in traceback.walk_tb(error.__traceback__)
        ):
            raise
        with writing():
            raise


def _reader_left() -> NoReturn:
    drop_output()
    sys.exit(_READER_LEFT)
