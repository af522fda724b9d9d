"""Processes that train one model together: who they are, what they tell each other, and that they see the same.

torch.distributed carries it: gloo between CPUs, nccl between GPUs. Whoever starts the processes (torchrun, or
`layerlab.lab.launching`) says in the environment who is who. What an error of one process would leave the others
waiting for is shared: it is raised in all of them, and they end together.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from layerlab.errors import UserError

T = TypeVar("T")

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# To find each other; torch's own half hour is long to wait for a machine that is off.
_MEETING = timedelta(minutes=5)
# For one answer: an evaluation of a large graph by one process, for which the others wait, may take long. A process
# that has died is noticed at once.
_ANSWER = timedelta(hours=6)


class LostPeerError(Exception):
    """Another process of the training is gone: what was started together has to be started together again."""


class OneRankError(UserError):
    """A user's error of a single process, in the middle of a step, of which the others only see that it has gone."""


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
def talking() -> Iterator[None]:
    """Around what speaks with the other processes: that one of them is gone is `LostPeerError`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise LostPeerError(
                "another process of this training is gone; run the same command to go on where it stopped"
            ) from error
        raise


class Group:
    """The processes of one training, as one of them sees it. Made by `joined`.

    Args:
        where: this process.
        device: where it trains.
    """

    def __init__(self, where: Place, device: torch.device) -> None:
        self.rank, self.size, self.where, self.device = where.rank, where.size, where, device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of so many: runs of about as many, none twice; empty where there are too few."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are, after each backward, the mean over all processes."""
        # Buffers are the same everywhere: each process computes them of the same numbers.
        known = inspect.signature(DistributedDataParallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {option: False}
        if self.device.type == "cuda":
            options["device_ids"] = [self.device]
        with talking():
            return DistributedDataParallel(model, **options)

    @contextmanager
    def step(self, seed: int) -> Iterator[None]:
        """Around a step: torch's generator stands at a place of this process's own, and afterwards where it stood."""
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if cuda else []), talking(), self.alone():
            # On a CPU the same numbers, without a millisecond for devices that are not there.
            torch.manual_seed(seed) if cuda else torch.default_generator.manual_seed(seed)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around work on a share: what is wrong in it is `OneRankError`."""
        try:
            yield
        except UserError as error:
            raise OneRankError(f"rank {self.rank} of {self.size}: {error}") from error

    def sums(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes, the same bits in all."""
        total = torch.tensor(numbers, dtype=torch.float64)
        with talking():
            dist.all_reduce(total)
        return cast(list[float], total.tolist())

    def mean(self, number: float) -> float:
        """The mean over all processes."""
        return self.sums(number)[0] / self.size

    def any(self, *facts: bool) -> list[bool]:
        """Of each, whether it holds in some process."""
        return [count > 0 for count in self.sums(*facts)]

    def stacked(self, numbers: Tensor) -> Tensor:
        """The tensors of all processes, of one shape, one above the other by rank; without a derivative."""
        parts = [torch.empty_like(numbers) for _ in range(self.size)]
        with talking():
            dist.all_gather(parts, numbers.contiguous())
        return torch.stack(parts)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, with its derivative: what each process's sum says of the numbers here."""
        with talking():
            return cast(Tensor, _Total.apply(numbers))

    def texts(self, text: str) -> list[str]:
        """What every process says, by rank."""
        said = torch.frombuffer(bytearray(text.encode("utf-8", "surrogateescape") or b" "), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with talking():
            dist.all_gather(sizes, torch.tensor([len(said)]))
            longest = max(int(size) for size in sizes)
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(said)] = said
            heard = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(heard, padded)
        return [
            h[: int(size)].numpy().tobytes().decode("utf-8", "surrogateescape")
            for h, size in zip(heard, sizes, strict=True)
        ]

    def everywhere(self, make: Callable[[], T]) -> T:
        """``make()``; where it is a user's error in some process, that is raised in all of them.

        Raises:
            UserError: that of the lowest rank, with the ranks that have one.
        """
        mine: T | None = None
        said = ""
        try:
            mine = make()
        except UserError as error:
            said = str(error)
        heard = [text.strip() for text in self.texts(said)]
        wrong = [rank for rank, text in enumerate(heard) if text]
        if wrong:
            who = "" if len(wrong) == self.size else f"{_ranks(wrong)} of {self.size}: "
            raise UserError(f"{who}{heard[wrong[0]]}")
        return cast(T, mine)

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make()``, called by rank 0 alone, returned: JSON. A user's error is raised in all.

        Raises:
            UserError: of ``make``.
        """
        if self.first:
            try:
                mine = make()
            except UserError as error:
                self.bytes_of_first(json.dumps({"error": str(error)}).encode())
                raise
            self.bytes_of_first(json.dumps({"value": mine}).encode())
            return mine
        heard = json.loads(self.bytes_of_first(None))
        if "error" in heard:
            raise UserError(heard["error"])
        return cast(T, heard["value"])

    def bytes_of_first(self, content: bytes | None) -> bytes:
        """The bytes that rank 0 gives."""
        size = torch.tensor([len(content or b"")])
        with talking():
            dist.broadcast(size, 0)
            if not int(size):
                return b""
            sent = torch.empty(int(size), dtype=torch.uint8)
            if content is not None:
                sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(sent, 0)
        return content if content is not None else sent.numpy().tobytes()

    @contextmanager
    def copied(self, path: Path) -> Iterator[Path]:
        """Rank 0's file, in every process: rank 0 reads the file itself, others a copy, or nothing where none is."""
        found = b""
        if self.first and path.exists():
            found = path.read_bytes()
        content = self.bytes_of_first(found if self.first else None)
        if self.first:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="layerlab-") as folder:
            copy = Path(folder) / path.name
            if content:
                copy.write_bytes(content)
            yield copy

    def expect_same(self, what: str, value: Any, mend: str) -> None:
        """That every process has the same JSON.

        Raises:
            UserError: they have not; ranks that agree are named together.
        """
        text = json.dumps(value, sort_keys=True)
        heard = self.texts(hashlib.sha256(text.encode()).hexdigest()[:12])
        if len(set(heard)) == 1:
            return
        camps: dict[str, list[int]] = {}
        for rank, digest in enumerate(heard):
            camps.setdefault(digest, []).append(rank)
        seen = "; ".join(f"{_ranks(ranks)} {digest}" for digest, ranks in camps.items())
        raise UserError(f"the processes see different {what} (digests: {seen}); {mend}")


class _Total(torch.autograd.Function):
    """The sum over all processes. All of them go on from it, so the derivatives are summed, too."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        total = numbers.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


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
        yield Group(where, device)
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

    def wait(ready: Callable[[], bool], who: str) -> None:
        while not ready():
            if time.monotonic() > ends:
                raise TimeoutError(f"{who} did not answer")
            time.sleep(0.02)

    if rank == 0:
        store.set("layerlab/call", own)
        answers = [f"layerlab/answer/{other}" for other in range(1, size)]
        for other, key in enumerate(answers, 1):
            wait(lambda key=key: heard(key).startswith(own), f"rank {other}")  # type: ignore[misc]
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


def _ranks(ranks: list[int]) -> str:
    """In words.

    >>> _ranks([1]), _ranks([0, 2])
    ('rank 1', 'ranks 0, 2')
    """
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
