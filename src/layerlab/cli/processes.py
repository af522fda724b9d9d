"""Commands that train in several processes: started here by ``--processes``, or by torchrun."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from layerlab.errors import UserError

if TYPE_CHECKING:
    from layerlab.lab.process_group import Group

T = TypeVar("T")

Processes = Annotated[
    int,
    typer.Option(
        min=1,
        help="Train in so many processes of this machine, which share every batch; for several machines, start with"
        " torchrun. Should one die, all go on from the last checkpoint.",
    ),
]

# A peer is gone: nothing is wrong with the command.
_FAILED = 1


def start(count: int) -> None:
    """With several: run this very command in so many processes, and end with its status. Else do nothing.

    Raises:
        UserError: more processes than cores, or this is one of several already.
        KeyboardInterrupt: Ctrl-C; the processes have ended.
    """
    from layerlab.lab import launching

    if count == 1 or launching.launched():
        return
    from layerlab.lab.machine import available_cores
    from layerlab.lab.rendezvous import place

    if place() is not None:
        raise UserError("torchrun has started several processes already; leave --processes out")
    if count > (cores := available_cores()):
        raise UserError(
            f"expected at most one process for each of {cores} cores, got --processes {count}; take {cores}, or start "
            "on several machines with torchrun"
        )
    status = launching.launch("layerlab.cli.rank", sys.argv[1:], count)
    if status == 130:
        raise KeyboardInterrupt
    raise SystemExit(status)


@contextmanager
def together(*, cuda: bool = False) -> Iterator[Group | None]:
    """The processes that this one trains with, for the block; None: it trains alone.

    Rank 0 speaks for all: errors and Ctrl-C end the others without a word.

    Args:
        cuda: train on GPUs.
    """
    from layerlab.lab import launching
    from layerlab.lab.process_group import LostPeerError, OneRankError
    from layerlab.lab.rendezvous import joined, place

    where = place()
    if where is None:
        yield None
        return
    from layerlab.cli.output import say

    try:
        with joined(where, cuda=cuda) as group:
            if group.first and launching.restarts():
                say(
                    f"a process died; all {group.size} go on from the last checkpoint "
                    f"(start {launching.restarts() + 1} of {launching.RESTARTS + 1})"
                    if launching.launched()
                    else f"a process died; all {group.size} go on from the last checkpoint"
                )
            yield group
    except LostPeerError as error:
        if launching.launched():
            sys.exit(launching.LOST)
        if where.rank == 0:
            say(f"error: {error}")
        sys.exit(_FAILED)
    except UserError as error:
        if where.rank == 0 or isinstance(error, OneRankError):
            raise
        sys.exit(2)
    except KeyboardInterrupt:
        # With --processes, whoever started them says so.
        if where.rank == 0 and not launching.launched():
            raise
        sys.exit(130)


def local_processes() -> int:
    """How many processes train together on this machine."""
    from layerlab.lab.rendezvous import place

    where = place()
    return 1 if where is None else where.local_size


def speaks(group: Group | None) -> bool:
    """Whether this process prints and writes for all."""
    return group is None or group.first


def bar_of(
    group: Group | None, bar: Callable[[str], AbstractContextManager[T]], title: str
) -> AbstractContextManager[T | None]:
    """A bar of `layerlab.cli.progress` in the process that speaks; nothing in the others."""
    return bar(title) if speaks(group) else nullcontext()
