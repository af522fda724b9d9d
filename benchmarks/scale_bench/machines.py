"""Machines one can rent: what of a planned training fits on them, and what bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scale_bench import plan
from scale_bench.plan import PAPERS, Target


@dataclass(frozen=True)
class Machine:
    """Something one can rent: how many of them, and what each has."""

    name: str
    count: int
    cores: int
    memory: float
    disk_reads: float = 2e5
    network: float = 1.25e9


# Disk reads: random pages a second of a local solid-state disk. Network: bytes a second, 10 Gbit/s.
MACHINES = (
    Machine("one, 8 cores, 32 GB", 1, 8, 32e9),
    Machine("one, 16 cores, 128 GB", 1, 16, 128e9),
    Machine("one, 32 cores, 256 GB", 1, 32, 256e9),
    Machine("four, 16 cores, 64 GB each", 4, 16, 64e9),
    Machine("eight, 16 cores, 128 GB each", 8, 16, 128e9),
)


def partitioned(
    parts: dict[str, Any], machine: Machine, share: float, ranks: int, target: Target = PAPERS
) -> dict[str, float]:
    """A step on several machines, each with a part of the features: bytes it fetches, and how long that takes.

    Args:
        parts: the stored results.
        machine: how many, and how fast their network is.
        share: of the rows read that lie on another machine; (p - 1) / p where nodes are dealt by a hash.
        ranks: of one machine.
        target: the graph.
    """
    fetched = share * 4.0 * plan.batch(parts)["nodes"] * target.columns
    reduced = 2.0 * (machine.count - 1) / machine.count * 4 * plan.parameters(target)
    return {
        "fetched": fetched,
        "reduced": reduced,
        "network_seconds": (ranks * fetched + reduced) / machine.network,
    }


def with_ranks(
    parts: dict[str, Any], machine: Machine, ranks: int, target: Target = PAPERS
) -> dict[str, Any]:
    """An epoch with so many ranks on each machine, every one of which holds a P of its own.

    Ranks are taken to cost nothing beside disk and network: the time is the least that can be hoped for.
    """
    found = plan.batch(parts)
    left = machine.memory - ranks * (plan.operator_bytes(target) + plan.waiting_bytes(parts, target))
    features = 4.0 * target.nodes * target.columns / machine.count
    cached = max(0.0, min(1.0, left / features))
    pages = (1 - cached) * found["nodes"] * -(-target.columns // plan.WIDTH)
    remote = (machine.count - 1) / machine.count
    times = {
        "computing": found["seconds"],
        "disk": ranks * pages / machine.disk_reads,
        "network": partitioned(parts, machine, remote, ranks, target)["network_seconds"],
    }
    bound = max(times, key=lambda name: times[name])
    steps = -(-target.train // int(found["size"])) / (ranks * machine.count)
    return {
        "fits": left > 0,
        "cached": cached,
        "ranks": ranks,
        "times": times,
        "bound": bound,
        "epoch_seconds": steps * times[bound],
    }


def on_machine(parts: dict[str, Any], machine: Machine, target: Target = PAPERS) -> dict[str, Any] | None:
    """The number of ranks that makes an epoch shortest, at most one for two cores; None where P does not fit."""
    tried = [with_ranks(parts, machine, ranks, target) for ranks in range(1, machine.cores // 2 + 1)]
    return min((one for one in tried if one["fits"]), key=lambda one: one["epoch_seconds"], default=None)
