"""Parts run by several threads: forks, errors, interruptions, callers in parallel and calls within calls."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.kernels import openmp, threads
from layerlab.lab.kernels.jit import kernel

needs_openmp = pytest.mark.skipif(not openmp.parallel(), reason="this torch has no GOMP_parallel")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
# Later Pythons warn of what is tested here.
fork_warns = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "SMALL", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_forked", True)


def numbers() -> tuple[SparseMatrix, Tensor]:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(200, 100, generator=generator)
    return SparseMatrix.from_dense(dense * (dense > 1)), torch.randn(100, 9, generator=generator)


class _Products(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        matrix, x = numbers()
        torch.set_num_threads(2)
        return ops.spmm(matrix, x * index)


def _compute(answer: Connection) -> None:
    matrix, x = numbers()
    answer.send((ops.spmm(matrix, x).numpy(), [worker.is_alive() for worker in threads._workers]))


@kernel
def _where(out: Any, first: int, last: int) -> None:
    for i in range(first, last):
        out[i] = 100 * first + i


@kernel
def _failing(at: int, first: int, last: int) -> None:
    if first == at:
        raise ValueError("not told")


@needs_openmp
def test_parts_of_a_compiled_kernel_run_on_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_need", lambda count: pytest.fail("ordinary threads were asked"))
    out = np.zeros(10, np.int64)
    for cuts in ([0, 10], [0, 4, 10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [0, 4, 4, 10]):
        out[:] = -1
        threads.run(_where, (out,), cuts)
        assert out.tolist() == [100 * max(cut for cut in cuts[:-1] if cut <= i) + i for i in range(10)]
    before = out.copy()
    threads.run(_where, (out,), [3, 3])
    assert np.array_equal(before, out)


@kernel
def _meeting(begun: Any, seen: Any, first: int, last: int) -> None:
    begun[first] = 1
    # Two seconds or so. The store keeps the other's entry from being read once only.
    while begun[1 - first] == 0 and seen[first] < 1 << 31:
        seen[first] += 1
    seen[first] = begun[1 - first]


@needs_openmp
def test_both_threads_work_at_once() -> None:
    begun, seen = np.zeros(2, np.int64), np.zeros(2, np.int64)
    threads.run(_meeting, (begun, seen), [0, 1, 2])
    assert seen.tolist() == [1, 1]


@needs_openmp
def test_alone_limits_torch_for_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with openmp.alone():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), openmp.alone():
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(openmp, "_limit", lambda: None)
        with openmp.alone():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@needs_openmp
def test_a_kernel_that_fails_in_any_part_is_told() -> None:
    for broken in (0, 1, 2):
        with pytest.raises(RuntimeError, match="a kernel failed"):
            threads.run(_failing, (broken,), [0, 1, 2, 3])
    threads.run(_failing, (9,), [0, 1, 2, 3])


def test_ordinary_threads_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, x = numbers()
    expected = ops.spmm(matrix, x)
    monkeypatch.setattr(openmp, "_forked", True)
    assert torch.equal(ops.spmm(matrix, x), expected)
    assert threads._workers


@needs_fork
@fork_warns
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    matrix, x = numbers()
    expected = ops.spmm(matrix, x)
    for _ in range(3):
        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_compute, args=(there,), daemon=True)
        child.start()
        assert here.poll(60), "the forked child hangs"
        out, workers = here.recv()
        child.join(60)
        assert child.exitcode == 0
        assert np.array_equal(out, expected.numpy())
        assert workers == [True]
    assert torch.equal(ops.spmm(matrix, x), expected)


@needs_fork
@fork_warns
def test_workers_of_a_data_loader_compute() -> None:
    matrix, x = numbers()
    expected = [ops.spmm(matrix, x * index) for index in range(4)]
    loader = DataLoader(
        _Products(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    for ours, theirs in zip(loader, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_of_any_part_is_raised_after_all_parts_have_ended(broken: int) -> None:
    ended = []

    def part(first: int, last: int) -> None:
        time.sleep(0.02 * first)
        ended.append(first)
        if first == broken:
            raise ValueError(f"part {first}")

    with pytest.raises(ValueError, match=f"part {broken}"):
        threads.run(part, (), [0, 1, 2, 3])
    assert sorted(ended) == [0, 1, 2]
    threads.run(lambda first, last: ended.append(first), (), [5, 6, 7])
    assert sorted(ended) == [0, 1, 2, 5, 6]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt one thread")
def test_ctrl_c_waits_for_the_parts_and_leaves_the_threads_usable() -> None:
    main, begun, ended = threading.get_ident(), threading.Event(), []

    def part(first: int, last: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(60)
            return
        begun.set()
        time.sleep(0.1)  # the caller waits by now
        for _ in range(2):
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.05)
        ended.append(first)

    for round_ in range(3):
        begun.clear()
        with pytest.raises(KeyboardInterrupt):
            threads.run(part, (), [0, 1, 2])
        assert len(ended) == round_ + 1
    matrix, x = numbers()
    torch.testing.assert_close(ops.spmm(matrix, x), matrix.to_dense() @ x)


def test_parts_may_be_dealt_out_within_parts() -> None:
    out = np.zeros(8)

    def inner(base: int, first: int, last: int) -> None:
        out[base + first : base + last] += 1

    def outer(first: int, last: int) -> None:
        threads.run(inner, (4 * first,), [0, 1, 2, 3, 4])

    finished = threading.Event()

    def both() -> None:
        threads.run(outer, (), [0, 1, 2])
        finished.set()

    threading.Thread(target=both, daemon=True).start()
    assert finished.wait(60), "calls within calls wait for each other"
    assert out.tolist() == [1] * 8


def test_a_part_that_nobody_begins_is_done_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_need", lambda count: None)
    monkeypatch.setattr(threads, "_tasks", threads.SimpleQueue())
    seen = []
    threads.run(lambda first, last: seen.append((first, last, threading.get_ident())), (), [0, 3, 3, 9])
    assert seen == [(0, 3, threading.get_ident()), (3, 9, threading.get_ident())]


def test_several_threads_compute_at_once_forward_and_backward() -> None:
    matrix, x = numbers()

    def step() -> list[Tensor]:
        values, dense = matrix.values.clone().requires_grad_(), x.clone().requires_grad_()
        out = ops.spmm(matrix.with_values(values), dense)
        out.square().sum().backward()
        return [out.detach(), values.grad, dense.grad]

    expected, wrong, done = step(), [], []

    def repeat() -> None:
        for _ in range(20):
            wrong.extend(
                i for i, (a, b) in enumerate(zip(step(), expected, strict=True)) if not torch.equal(a, b)
            )
        done.append(1)

    callers = [threading.Thread(target=repeat) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (len(done), wrong) == (5, [])


def test_parts_end_on_cache_lines_at_any_width() -> None:
    for width in range(1, 41):
        out = torch.empty(5000, width)
        assert out.data_ptr() % 64 == 0
        cuts = threads.parts_of(np.arange(5001, dtype=np.int32), 1 << 30)
        assert 0 < cuts[1] < 5000
        assert out[cuts[1] :].data_ptr() % 64 == 0


AT_EXIT = """
import atexit, threading
# Registered first, called last.
atexit.register(lambda: print(sorted(t.name for t in threading.enumerate())))
import torch
from layerlab.graph import ops
from layerlab.graph.sparse import SparseMatrix
from layerlab.lab.kernels import openmp, threads
threads.SMALL = 0
openmp._forked = True
torch.set_num_threads(2)
ops.spmm(SparseMatrix.from_dense(torch.ones(200, 9)), torch.ones(9, 3))
print(len(threads._workers))
"""


def test_workers_end_before_the_interpreter_does() -> None:
    run = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["1", "['MainThread']"], run.stderr
