"""The processes that train one model together, and what they tell each other.

torch.distributed carries it: gloo between CPUs, nccl between GPUs. What an error of one process would leave the others
waiting for is shared: it is raised in all of them, and they end together.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from layerlab.errors import UserError

T = TypeVar("T")


class LostPeerError(Exception):
    """Another process of the training is gone: what was started together has to be started together again."""


class OneRankError(UserError):
    """A user's error of a single process, in the middle of a step, of which the others only see that it has gone."""


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
    """The processes of one training, as one of them sees it. Made by `layerlab.lab.rendezvous.joined`.

    Args:
        rank: this process's number, from 0.
        size: of how many.
        device: where it trains.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

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


def _ranks(ranks: list[int]) -> str:
    """In words.

    >>> _ranks([1]), _ranks([0, 2])
    ('rank 1', 'ranks 0, 2')
    """
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
