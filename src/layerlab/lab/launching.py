"""Start a command in several processes of this machine, again from the last checkpoint when one of them dies.

torch's elastic launcher (what torchrun is made of) does it: it starts the processes, tells them who they are, ends all
when one has failed, and starts all anew. Here is what a command beside it needs: that an orderly end, an error for the
user included, is the command's end and not a reason to start again; that Ctrl-C reaches the processes once; and that
signal handlers and environment are left as they were.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from layerlab.errors import UserError

RESTARTS = 3
"""How often all processes are started again before that is the end."""

LOST = 75
"""Exit status of a process that another one has left alone: what `sysexits.h` calls a temporary failure."""

# Where a process leaves its exit status, and who started it.
_STATUS, _PARENT = "LAYERLAB_LAUNCHED_STATUS", "LAYERLAB_LAUNCHED_BY"
# A process that is asked to end finishes its epoch first, for so many seconds.
_PATIENCE = 60
# A process that was left alone waits so many seconds for the word of the one that left.
_WORD = 1.0


def launch(module: str, arguments: Sequence[str], processes: int) -> int:
    """Run ``python -m module arguments`` in so many processes; its exit status, as `finish` was told.

    The processes write to this one's standard output and error.

    Args:
        module: ends with `finish` in every process.
        arguments: of the module.
        processes: how many.

    Returns:
        The status that processes ended with in order. 130 after Ctrl-C, and 128 more than the signal's number after
        another signal.

    Raises:
        UserError: processes died more often than `RESTARTS`.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="layerlab-") as folder:
        status = Path(folder) / "status"
        changed = {_STATUS: str(status), _PARENT: str(os.getpid()), **_surroundings()}
        with _signals_kept(), _environment(changed), _quiet():
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id=secrets.token_hex(8),
                # A port that is free: the launcher itself listens there.
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                local_addr="127.0.0.1",
                max_restarts=RESTARTS,
            )
            try:
                elastic_launch(config, sys.executable)("-m", module, *arguments)
            except SignalException as stop:
                return 128 + int(stop.sigval)
            except ChildFailedError as error:
                first = error.get_first_failure()[1]
                raise UserError(
                    f"process {first.local_rank} of {processes} ended with status {first.exitcode}, after "
                    f"{RESTARTS} new starts of all (out of memory?); take fewer --processes or a smaller batch, and "
                    "run the same command to go on"
                ) from None
        return int(status.read_text()) if status.exists() else 0


def launched() -> bool:
    """Whether this process was started by `launch`."""
    return _STATUS in os.environ


def restarts() -> int:
    """How often all processes were started again before this one was."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def watch_parent() -> None:
    """End with the process that called `launch`, however that one ends; called by each that it has started."""
    parent = int(os.environ[_PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="layerlab-parent").start()


def finish(command: Callable[[], object]) -> NoReturn:
    """Run a command in a process of `launch`. However it ends in order, the launcher sees no failure to mend."""
    code: object = 0
    try:
        command()
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        code = 130
    number = code if isinstance(code, int) else int(code is not None)
    status = Path(os.environ[_STATUS])
    if number == LOST:
        # Left alone by one that ended in order: that is the end of all.
        ends = time.monotonic() + _WORD
        while not status.exists():
            if time.monotonic() > ends:
                sys.exit(LOST)
            time.sleep(0.05)
    elif number:
        status.write_text(str(number))
    sys.exit(0)


def _surroundings() -> dict[str, str]:
    """Variables of the processes: how long they may take to end, and that they are all on this machine."""
    own = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_PATIENCE)}
    if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
        # gloo would ask for the address of this machine's name, which not every machine knows.
        own["GLOO_SOCKET_IFNAME"] = "lo"
    return own


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Handlers of signals after the block are those before it."""
    names = (
        signal.SIGINT,
        signal.SIGTERM,
        *(getattr(signal, n) for n in ("SIGHUP", "SIGQUIT") if hasattr(signal, n)),
    )
    before = {number: signal.getsignal(number) for number in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """The launcher's own log, which tells developers of torch what happens, is not printed."""
    logger = logging.getLogger("torch.distributed.elastic")
    before = logger.disabled, logger.level
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        logger.disabled, logger.level = before
