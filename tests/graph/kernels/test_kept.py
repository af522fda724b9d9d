"""The cache of compiled kernels notices an edit of any file that a kernel is made of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from layerlab.graph.kernels import attention_backward_cpu, attention_cpu, dropped_cpu, products_cpu
from layerlab.lab.kernels import kept

SOURCE = Path(__file__).parents[3] / "src" / "layerlab"
FILES = (
    "errors.py",
    "lab/random.py",
    *(f"lab/kernels/{file}.py" for file in ("dealing", "jit", "kept", "vector")),
    "graph/kernels/products_cpu.py",
)
# The sums of columns, and how often numba found compiled code.
SUMS = """
import json, sys
import numpy as np
from layerlab.graph.kernels.products_cpu import column_sums
out = np.empty((1, 3), np.float32)
column_sums(np.ones((4, 3), np.float32), out, 4, 0, 1)
print(json.dumps([out[0].tolist(), sum(column_sums.stats.cache_hits.values())]))
"""


def sums(folder: Path) -> list[object]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    run = subprocess.run(
        [sys.executable, "-c", SUMS],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": str(folder)},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_an_edit_of_an_inlined_function_is_noticed(tmp_path: Path) -> None:
    # The package without what imports torch.
    for name in FILES:
        copy = tmp_path / "layerlab" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        for folder in (copy.parent, *copy.parent.parents[: len(Path(name).parts) - 1]):
            (folder / "__init__.py").touch()
        shutil.copy(SOURCE / name, copy)
    assert sums(tmp_path) == [[4.0] * 3, 0]
    assert sums(tmp_path) == [[4.0] * 3, 1]
    vector = tmp_path / "layerlab" / "lab" / "kernels" / "vector.py"
    text = vector.read_text(encoding="utf-8")
    assert text.count('("fadd", "fsub",') == 1
    vector.write_text(text.replace('("fadd", "fsub",', '("fsub", "fsub",'), encoding="utf-8")
    assert sums(tmp_path) == [[-4.0] * 3, 0]


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch):
    """Sets aside what is remembered, and returns the stamp of a module after an edit of another."""
    original = kept._source

    def stamp(module: str, changed: str) -> str:
        monkeypatch.setattr(kept, "_source", lambda name: original(name) + "#" * (name == changed))
        kept.stamp.cache_clear()
        return kept.stamp(module)

    yield stamp
    kept.stamp.cache_clear()


KERNELS = [products_cpu, dropped_cpu, attention_cpu, attention_backward_cpu]


@pytest.mark.parametrize("module", KERNELS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_stamp_depends_on_every_file_that_a_kernel_takes_something_from(module, edited) -> None:
    before = edited(module.__name__, "nothing")
    used = {module.__name__, "layerlab.lab.random", "layerlab.lab.kernels.vector"}
    used |= {getattr(value, "__module__", None) or "" for value in vars(module).values()}
    used = {name for name in used if name.startswith("layerlab.")}
    assert len(used) >= 4
    for name in used:
        assert edited(module.__name__, name) != before, name
    assert edited(module.__name__, "layerlab.graph.kernels.operators") == before
    assert edited(module.__name__, "nothing") == before


def test_kernels_are_kept_under_their_stamp() -> None:
    for module in KERNELS:
        kernels = [
            value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__
        ]
        named = [value for value in kernels if value.__qualname__.endswith(f"_{kept.stamp(module.__name__)}")]
        assert named
        for kernel in named:
            assert kernel.__name__ == kernel.__qualname__.rpartition("_")[0]


def test_kernels_are_found_where_numba_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = products_cpu.__name__
    products_cpu.column_sums(np.ones((4, 3), np.float32), np.empty((1, 3), np.float32), 4, 0, 1)
    assert kept.are_kept([module])
    assert not kept.are_kept([module, "layerlab.lab.random"])
    # Elsewhere: the folder beside the package does not count then.
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    stats = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(kept, "import_module", lambda name: stats_module)
    stats_module = SimpleNamespace(kernel=stats, other=3)
    assert not kept.are_kept([module])
    (tmp_path / f"products_cpu.spmm_{kept.stamp(module)}-45.py311.nbi").touch()
    assert kept.are_kept([module])
