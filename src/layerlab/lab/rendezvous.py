"""Where a process stands among those that train one model together, and how they meet.

Whoever starts the processes (torchrun, or `layerlab.lab.launching`) says in the environment who is who.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from layerlab.errors import UserError
from layerlab.lab.process_group import Group, talking

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# To find each other; torch's own half hour is long to wait for a machine that is off.
_MEETING = timedelta(minutes=5)
# For one answer: an evaluation of a large graph by one process, for which the others wait, may take long. A process
# that has died is noticed at once.
_ANSWER = timedelta(hours=6)


@dataclass(frozen=True)
class Place:
    """Where a process stands, as torchrun says it.

    Args:
        rank: its number, from 0.
        size: of how many.
        local_rank: its number on this machine.
        local_size: of how many.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int


def place(environment: Mapping[str, str] | None = None) -> Place | None:
    """Where this process stands; None where it trains alone.

    Args:
        environment: variables; None: those of the process.

    Raises:
        UserError: variables of torchrun are missing, or no such numbers.

    >>> place({"HOME": "/"}), place({"RANK": "0", "WORLD_SIZE": "1"})
    (None, None)
    >>> place({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    Place(rank=1, size=2, local_rank=1, local_size=2)
    """
    given = os.environ if environment is None else environment
    if given.get("WORLD_SIZE", "1") == "1" and given.get("RANK", "0") == "0":
        return None
    mend = "start with torchrun, or with --processes, or unset RANK and WORLD_SIZE to train alone"
    if missing := [name for name in _NEEDED if name not in given]:
        raise UserError(f"expected {', '.join(missing)} beside what torchrun sets; {mend}")
    try:
        rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
        local = int(given.get("LOCAL_RANK", rank)), int(given.get("LOCAL_WORLD_SIZE", size))
    except ValueError as error:
        raise UserError(f"expected whole numbers in the variables of torchrun ({error}); {mend}") from None
    if not 0 <= rank < size or not 0 <= local[0] < local[1]:
        raise UserError(f"expected RANK from 0 to {size - 1} and LOCAL_RANK below LOCAL_WORLD_SIZE; {mend}")
    return Place(rank, size, *local)


@contextmanager
def joined(where: Place, *, cuda: bool = False) -> Iterator[Group]:
    """Meet the other processes, for the block.

    Args:
        where: of `place`.
        cuda: train on GPUs, one a process, and speak through nccl.

    Raises:
        UserError: the port is taken, nobody is there, or there are fewer GPUs than processes.
    """
    if cuda and torch.cuda.device_count() < where.local_size:
        raise UserError(
            f"expected a GPU for each of the {where.local_size} processes on this machine, found "
            f"{torch.cuda.device_count()}; start as many, or train on the CPU with CUDA_VISIBLE_DEVICES="
        )
    device = torch.device(f"cuda:{where.local_rank}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    at = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=_MEETING)))
        common = dist.distributed_c10d.PrefixStore(_met(store, rank, size), store)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise UserError(
                f"the port of {at} is taken by another program; choose another with --master-port, or let torchrun "
                "find one with --standalone"
            ) from None
        raise UserError(
            f"nobody answers at {at} ({_line(error)}); check MASTER_ADDR and MASTER_PORT"
        ) from None
    except (dist.DistError, TimeoutError, ValueError) as error:
        raise UserError(
            f"the {where.size} processes did not meet at {at} ({_line(error)}); start all of them"
        ) from None
    try:
        with talking():
            # Both: what processes agree on lies in the machine's memory.
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=common, rank=rank, world_size=size, timeout=_ANSWER)
        yield Group(where.rank, where.size, device)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _met(store: Any, rank: int, size: int) -> str:
    """A word that all processes have in common, and no process that was there before them.

    After a restart torchrun's store still holds what the dead have written, the addresses of their sockets too. Rank
    0 calls with a new word until each has answered that word with one of its own, and then names all of them.
    """
    own, ends = secrets.token_hex(8), time.monotonic() + _MEETING.total_seconds()

    def heard(key: str) -> str:
        return str(store.get(key), "utf-8") if store.check([key]) else ""

    def answered(key: str) -> bool:
        return heard(key).startswith(own)

    def wait(ready: Callable[[], bool], who: str) -> None:
        while not ready():
            if time.monotonic() > ends:
                raise TimeoutError(f"{who} did not answer")
            time.sleep(0.02)

    if rank == 0:
        store.set("layerlab/call", own)
        answers = [f"layerlab/answer/{other}" for other in range(1, size)]
        for other, key in enumerate(answers, 1):
            wait(partial(answered, key), f"rank {other}")
        store.set("layerlab/all", " ".join(heard(key) for key in answers))
        return own
    word = ""

    def named() -> bool:
        nonlocal word
        if (call := heard("layerlab/call")) != word:
            word = call
            store.set(f"layerlab/answer/{rank}", f"{word} {own}")
        return f"{word} {own}" in heard("layerlab/all")

    wait(named, "rank 0")
    return word


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
