"""Break the claims' code in small ways, one at a time, and see whether a test notices (docs/mutation.md).

    OMP_NUM_THREADS=1 python scripts/mutate.py --out mutation.jsonl --share 0.3 'graph/theorems/*' 'claims/*'

For each group (the claims, or one domain's theorems) its tests run once, and it is noted which lines each test runs.
Then each mutant is tried in a process forked off one that has loaded torch and its like already: the module is
compiled from the changed tree in memory, no file is touched, and the tests that run the changed line are run, the
quickest first, up to the first failure. What is in the file OUT already is not tried again.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fnmatch
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mutants import Mutant, mutants, mutated

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "layerlab"
# Never loaded before the fork: what is mutated, and what holds on to it.
FRESH = ("layerlab.claims", "layerlab.catalogue", "layerlab.cli", "layerlab.reproduce")


class Tests:
    """A pytest plugin: runs the chosen tests, the quickest first; of all of them, times and lines run."""

    def __init__(
        self, chosen: dict[str, float] | None = None, coverage: Any = None, changed: Changed | None = None
    ) -> None:
        self.chosen, self.coverage, self.changed = chosen, coverage, changed
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        # Not earlier: pytest's own loader, which is put in front too, would take the module from its file.
        if self.changed is not None:
            sys.meta_path.insert(0, self.changed)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.chosen is not None:
            chosen = self.chosen
            items[:] = sorted(
                (item for item in items if item.nodeid in chosen), key=lambda item: chosen[item.nodeid]
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        if self.coverage is not None:
            self.coverage.switch_context(item.nodeid)
        start = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - start


class Changed(importlib.abc.MetaPathFinder):
    """Loads one module from a given tree, all others as ever."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return compile(tree, str(path), "exec", dont_inherit=True)

        places = [str(path.parent)] if path.name == "__init__.py" else None
        self._module = module
        self._spec = importlib.machinery.ModuleSpec(module, Loader(module, str(path)), origin=str(path))
        self._spec.has_location = True
        self._spec.submodule_search_locations = places

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return self._spec if fullname == self._module else None


def in_a_fork(work: Callable[[], int], limit: float) -> int | None:
    """The exit status of work done in a forked process; None where it ran past the limit or crashed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.setitimer(signal.ITIMER_PROF, limit)  # processor time: others may compute here too
            status = work()
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def run(files: Sequence[str], tests: Tests) -> int:
    """pytest over the files, up to the first failure."""
    # Hypothesis is loaded before the fork; the warning about that would be an error.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    options = ["-x", "-p", "no:xdist", "-p", "no:cov", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *files], plugins=[tests]))


def first_run(files: Sequence[str], group: Sequence[Path], notes: Path) -> dict[str, Any]:
    """The tests' seconds, which of them run which line of the group, and the modules that they load."""

    def work() -> int:
        import coverage

        watch = coverage.Coverage(data_file=None, include=[str(path) for path in group], config_file=False)
        tests = Tests(coverage=watch)
        watch.start()
        status = run(files, tests)
        watch.stop()
        data = watch.get_data()
        lines = {str(path): data.contexts_by_lineno(str(path)) for path in group}
        modules = [name for name in sys.modules if not name.startswith(("tests", "test_"))]
        notes.write_text(json.dumps({"seconds": tests.seconds, "lines": lines, "modules": modules}))
        return status

    if in_a_fork(work, limit=900) != 0:
        raise SystemExit(f"error: the tests fail before anything is changed: pytest {' '.join(files)}")
    found: dict[str, Any] = json.loads(notes.read_text())
    notes.unlink()
    return found


def load(modules: Sequence[str]) -> None:
    """Load beforehand all that is not mutated."""
    for name in modules:
        if not name.startswith(FRESH) and ".theorems" not in name and name.split(".")[0] in sys.stdlib_module_names | {
            "layerlab", "torch", "numpy", "scipy", "hypothesis", "networkx", "numba", "torch_geometric"
        }:  # fmt: skip
            with contextlib.suppress(ImportError, AttributeError):
                importlib.import_module(name)
    stale = [name for name in sys.modules if name.startswith(FRESH) or ".theorems" in name]
    assert not stale, stale


def tests_of(mutant: Mutant, known: dict[str, Any], path: Path) -> set[str]:
    """The tests that run one of the mutant's lines; of a line that runs on import, all that run the module.

    And all of the room: some read only what was made on import, and run no line of it.
    """
    lines = known["lines"][str(path)]
    own = {name for line in range(mutant.line, mutant.last_line + 1) for name in lines.get(str(line), [])}
    if "" in own or not own:
        own |= {name for names in lines.values() for name in names}
        own |= {
            name for name in known["seconds"] if f"{path.parent.relative_to(PACKAGE).as_posix()}/" in name
        }
    return own - {""}


def verdict_on(path: Path, tree: ast.Module, chosen: dict[str, float]) -> str:
    """What the chosen tests say of a module with this tree."""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    wanted = sorted({name.split("::")[0] for name in chosen})

    def work() -> int:
        return run(wanted, Tests(chosen, changed=Changed(module, path, tree)))

    status = in_a_fork(work, limit=20 + 4 * sum(chosen.values())) if chosen else 0
    # 1: a test failed. 2: a module could not even be imported. All else is a fault of this script.
    verdict = {0: "survived", 1: "killed", 2: "killed", None: "stopped"}.get(status)
    if verdict is None:
        raise SystemExit(f"error: pytest over {' '.join(wanted)} ends with status {status}")
    return verdict


def check_itself(paths: set[Path], known: dict[str, Any], longest: float) -> None:
    """A module that cannot be imported is noticed, and an unchanged one survives."""
    quick = {name: took for name, took in known["seconds"].items() if took <= longest}
    for path in paths:
        assert verdict_on(path, ast.parse("raise RuntimeError"), quick) == "killed", path
    assert verdict_on(path, ast.parse(path.read_text(encoding="utf-8")), quick) == "survived", path


def try_one(path: Path, mutant: Mutant, known: dict[str, Any], longest: float) -> dict[str, Any]:
    """Whether a test notices; tests of more than ``longest`` seconds are not asked."""
    seconds = known["seconds"]
    chosen = {name: seconds[name] for name in tests_of(mutant, known, path) if seconds[name] <= longest}
    start = time.monotonic()
    verdict = verdict_on(path, mutated(path.read_text(encoding="utf-8"), mutant), chosen)
    where = path.relative_to(PACKAGE).as_posix()
    entry = {
        "file": where,
        "mutant": mutant.name,
        "place": mutant.place,
        "verdict": verdict,
        "tests": len(chosen),
    }
    return {**entry, "seconds": round(time.monotonic() - start, 2)}


def groups(patterns: Sequence[str]) -> dict[str, list[Path]]:
    """The files that a pattern names, by the folder whose tests they share."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*PACKAGE.glob("claims/*.py"), *PACKAGE.glob("*/theorems/*.py")]):
        if any(fnmatch.fnmatch(path.relative_to(PACKAGE).as_posix(), pattern) for pattern in patterns):
            found.setdefault(path.parent.relative_to(PACKAGE).as_posix(), []).append(path)
    return found


def test_files(folder: str) -> list[str]:
    """Of the claims their tests and the doctests; of a domain its theorems' tests, and those that hold all claims."""
    if folder == "claims":
        return ["tests/claims", "src/layerlab/claims"]
    return [f"tests/{folder}", "tests/test_slacks.py", "tests/test_slack_scales.py"]


def table(entries: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a row a file."""
    rows = ["| file | tried | killed | stopped | survived |", "| --- | ---: | ---: | ---: | ---: |"]
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        for name in (entry["file"], "all"):
            counts.setdefault(name, Counter())[entry["verdict"]] += 1
    for name, of in sorted(counts.items(), key=lambda pair: (pair[0] == "all", pair[0])):
        rows.append(f"| {name} | {of.total()} | {of['killed']} | {of['stopped']} | {of['survived']} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("patterns", nargs="*", default=["*"], help="files below src/layerlab")
    parser.add_argument("--out", type=Path, required=True, help="a JSON line a mutant")
    parser.add_argument(
        "--share", type=float, default=1.0, help="the share of each file's mutants that is tried"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--longest", type=float, default=8.0, help="leave out tests of more seconds")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after that")
    asked = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    end = time.monotonic() + 60 * asked.minutes
    asked.out.touch()
    entries = [json.loads(line) for line in asked.out.read_text(encoding="utf-8").splitlines()]
    done = {(entry["file"], entry["place"], entry["mutant"]) for entry in entries}
    total = 0
    for folder, paths in groups(asked.patterns).items():
        work = []
        for path in paths:
            found = mutants(path.read_text(encoding="utf-8"))
            total += len(found)
            draw = random.Random(f"{asked.seed} {path.relative_to(PACKAGE).as_posix()}")
            chosen = sorted(draw.sample(range(len(found)), round(asked.share * len(found))))
            where = path.relative_to(PACKAGE).as_posix()
            work += [(path, found[i]) for i in chosen if (where, found[i].place, found[i].name) not in done]
        # Where time runs out, what was tried is still a sample of the whole group.
        random.Random(f"{asked.seed} {folder}").shuffle(work)
        if not work or time.monotonic() > end:
            continue
        files = test_files(folder)
        known = first_run(files, paths, asked.out.with_suffix(".notes"))
        took = sum(known["seconds"].values())
        print(f"{folder}: {len(work)} mutants, {len(known['seconds'])} tests of {took:.0f} s", flush=True)

        def whole(work: list[tuple[Path, Mutant]] = work, known: dict[str, Any] = known) -> int:
            load(known["modules"])
            check_itself({path for path, _ in work}, known, asked.longest)
            for path, mutant in work:
                if time.monotonic() > end:
                    break
                entry = try_one(path, mutant, known, asked.longest)
                with asked.out.open("a", encoding="utf-8") as file:
                    print(json.dumps(entry, ensure_ascii=False), file=file)
            return 0

        if in_a_fork(whole, limit=1e6) != 0:
            raise SystemExit(1)
    entries = [json.loads(line) for line in asked.out.read_text(encoding="utf-8").splitlines()]
    print(table(entries))
    print(f"{len(entries):,} mutants tried of {total:,}")
    for entry in entries:
        if entry["verdict"] == "survived":
            print(f"survived: {entry['file']}:{entry['mutant']}")


if __name__ == "__main__":
    main()
