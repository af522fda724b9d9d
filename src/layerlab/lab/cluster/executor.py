"""Cells of a race as tasks of Ray: what a lost machine did not finish is done by another."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.cluster import remote
from layerlab.lab.cluster.address import LOCAL
from layerlab.lab.cluster.session import connected, ray_module
from layerlab.lab.machine import available_cores
from layerlab.lab.race import CellResult, Executor, RunCell

RETRIES = 3
"""How often a cell is begun anew whose machine, or process, was lost."""

_PATIENCE = 60.0  # seconds, for a machine to say which versions it has
_PARTING = 10.0  # seconds, for cells that are cancelled to end


@contextlib.contextmanager
def opened(on: str, jobs: int | None = None) -> Iterator[Executor | None]:
    """Where a race runs, until the block is left; whatever was started for it has ended then.

    Args:
        on: "local" (yields None: `layerlab.lab.race.race` starts processes of this machine), "ray" (a Ray started for
            the block, or the cluster of the variable RAY_ADDRESS) or ``ray://HOST:PORT`` (a cluster, from a machine
            that is not of it). The cluster runs code: it must be one that you trust.
        jobs: cells at a time; None: as many as there are processors.

    Raises:
        UserError: another word; Ray is not installed; no cluster answers; a machine of it has no layerlab, or other
            versions than this one. Nothing has been written then.
    """
    if on == LOCAL:
        yield None
        return
    with connected(on, jobs or available_cores()) as alone:
        executor = RayExecutor(jobs, alone=alone)
        executor.compare_versions()
        yield executor


class RayExecutor:
    """The `layerlab.lab.race.Executor` of the cluster that this process is connected to; made by `opened`.

    Args:
        jobs: cells at a time; None: as many as there are processors.
        alone: it is a Ray of this machine, with this very installation.
    """

    def __init__(self, jobs: int | None, *, alone: bool) -> None:
        if jobs is not None and jobs < 1:
            raise UserError(f"expected at least one job, got {jobs}")
        self.jobs = jobs
        self._alone = alone
        self._ray = ray_module()
        versions, call = remote.functions()
        self._here = versions()
        # Relative paths mean there what they mean here.
        self._folder = os.getcwd()  # noqa: PTH109
        # What a cell raises is told; what a machine does to it is no fault of the cell.
        self._versions = self._ray.remote(num_cpus=0)(versions)
        self._call = self._ray.remote(max_retries=RETRIES, retry_exceptions=False)(call)

    def compare_versions(self) -> None:
        """That every machine has the packages of this one.

        Raises:
            UserError: one has others, or does not answer; or there is none.
        """
        if self._alone:
            return
        machines = self._machines()
        asked = {
            name: self._versions.options(scheduling_strategy=_only_on(node)).remote()
            for name, node in machines.items()
        }
        for name, answer in asked.items():
            try:
                found = self._ask(self._ray.get, answer, timeout=_PATIENCE)
            except self._ray.exceptions.RayError as error:
                if machines[name] in self._machines().values():
                    raise UserError(
                        f"the cluster's machine {name} did not say its versions ({_name(error)}); "
                        "mend it, or take it off the cluster"
                    ) from None
            else:
                self._refuse_others(found, f"the cluster's machine {name}")

    def check(self, look: Callable[[], object]) -> None:
        """See `layerlab.lab.race.Executor.check`."""
        if self._alone:
            return
        payload = self._ask(self._ray.put, self._pickled(look))
        machines = self._machines()
        asked = {
            name: self._call.options(num_cpus=0, scheduling_strategy=_only_on(node)).remote(
                self._here, self._folder, payload
            )
            for name, node in machines.items()
        }
        for name, answer in asked.items():
            try:
                self._result(answer, "the check")
            except UserError as error:
                # A machine that has gone meanwhile runs no cells.
                if machines[name] in self._machines().values():
                    raise UserError(f"on the cluster's machine {name}: {error}") from None

    def run(
        self, run_cell: RunCell, cells: Mapping[str, tuple[str, int]]
    ) -> Generator[tuple[str, CellResult], None, None]:
        """See `layerlab.lab.race.Executor.run`."""
        payload = self._ask(self._ray.put, self._pickled(run_cell))
        waiting = iter(cells.items())
        under_way: dict[Any, str] = {}
        try:
            while True:
                free = (self.jobs or len(cells)) - len(under_way)
                for key, (name, seed) in itertools.islice(waiting, free):
                    begin = self._call.options(num_cpus=1, name=key).remote
                    under_way[self._ask(begin, self._here, self._folder, payload, name, seed)] = key
                if not under_way:
                    return
                ready, _ = self._ask(self._ray.wait, list(under_way), num_returns=1)
                for answer in ready:
                    key = under_way.pop(answer)
                    yield key, self._result(answer, f"the cell {key}")
        finally:
            self._cancel(list(under_way))

    def _machines(self) -> dict[str, str]:
        """Ray's names of the machines that take tasks, by address."""
        nodes = [
            node
            for node in self._ask(self._ray.nodes)
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]
        if not nodes:
            raise UserError("expected a cluster with a processor for tasks, got none; start a worker there")
        addresses = [node["NodeManagerAddress"] for node in nodes]
        return {
            address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:8]})": node["NodeID"]
            for address, node in zip(addresses, nodes, strict=True)
        }

    def _ask(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function of Ray, and tell a cluster that has gone."""
        try:
            return function(*arguments, **options)
        except self._ray.exceptions.RayTaskError:
            # What a task raised, which may be a ConnectionError of its own.
            raise
        except ConnectionError as error:
            words = str(error).strip().splitlines()
            raise UserError(
                f"the cluster was lost ({words[0] if words else _name(error)}); run again to go on"
            ) from None

    def _pickled(self, function: Callable[..., object]) -> bytes:
        found: bytes = self._ray.cloudpickle.dumps(function)
        return found

    def _result(self, answer: Any, what: str) -> Any:
        """What a task returned; what it raised, raised here as it was there."""
        errors = self._ray.exceptions
        try:
            same, found = self._ask(self._ray.get, answer)
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            # Its text is the traceback of the task.
            raise error.cause or error from error
        except errors.RayError as error:
            raise UserError(
                f"the cluster lost {what} {RETRIES + 1} times ({_name(error)}; out of memory?); "
                "run again to go on, with fewer --jobs"
            ) from None
        if not same:
            self._refuse_others(found, "a machine that has joined the cluster")
        return found

    def _refuse_others(self, found: Mapping[str, str | None], where: str) -> None:
        if words := remote.differences(found, self._here):
            raise UserError(f"{where} has {words}; install the same versions there")

    def _cancel(self, answers: list[Any]) -> None:
        """End what is under way, and wait for it a little: nobody wants a cell that trains on for nobody."""
        if not answers or not self._ray.is_initialized():
            return
        with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError):
            for answer in answers:
                self._ray.cancel(answer, force=True)
            self._ray.wait(answers, num_returns=len(answers), timeout=_PARTING, fetch_local=False)


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _name(error: BaseException) -> str:
    return type(error).__name__
