"""Kill every long command at random moments, begin it again, and compare with a run that was left alone.

    python scripts/kill.py                         a round of every command
    python scripts/kill.py --seconds 600 --only segment --seed 3

Every command runs once undisturbed. Then, in another folder, it is killed (SIGKILL, the main process only) at moments
drawn from its time, begun again, killed again, and in the end left to finish. Its workers must be gone by themselves
within seconds; what it leaves behind must be the same as that of the first run: weights, tables and pictures byte by
byte, records but for times. Exit status 1 if it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# What depends on the moment, and not on what was asked.
TIMES = re.compile(
    r"seconds|seconds_.*|.*_seconds|created|timing.*|step_seconds|milliseconds|spread|faster|ms|checksum"
)
SLOWEST = 300.0
GONE_WITHIN = 10.0

_FUNCTION = """import time
import torch

def f(x):
    time.sleep(0.01)
    return (x * torch.arange(1.0, 13.0)).sum(-1)
"""
_NODES = 60


@dataclass(frozen=True)
class Command:
    """A long command.

    Attributes:
        words: of the command; it writes into the folder (or file) `out`.
        resume: a word to add when there is something to go on with.
        ignored: fields of records that may differ, by name.
        once: it refuses a place where its result already is.
        status: its exit status at the end.
    """

    words: str
    resume: str = ""
    ignored: str = "-"
    once: bool = False
    status: int = 0


_SEGMENT = "segment {} digits --size 16 --widths 4,4 --batch 4"
COMMANDS: dict[str, Command] = {
    "graph-train": Command("graph train data --model gat --epochs 60 --out out"),
    "graph-train-batches": Command(
        "graph train data --model gcn --batch-size 8 --fanout 3,2 --epochs 60 --out out"
    ),
    "graph-convert": Command("graph convert edges.csv --out out --memory 64MB", once=True),
    "graph-race": Command("graph race data --models gcn,sgc,mlp --seeds 8 --jobs 2 --out out"),
    "graph-inspect": Command("graph inspect cora --train --depth 4 --report --out out"),
    "segment-train": Command(_SEGMENT.format("train") + " --count 60 --epochs 25 --threads 1 --out out"),
    "segment-race": Command(
        _SEGMENT.format("race") + " --epochs 3 --arms on,off --seeds 2 --jobs 2 --out out"
    ),
    "segment-predict": Command(
        "segment predict trained images --out out --confidence", ignored="kept|predicted|model"
    ),
    "optimise": Command(
        "estimator optimise f.py:f --bits 12 --single --budget 400 --seed 1 --out out --report",
        "--resume",
        "counts",
    ),
    "optimise-workers": Command(
        "estimator optimise f.py:f --bits 12 --single --budget 300 --workers 2 --out out",
        "--resume",
        "counts",
    ),
    "policy": Command(
        "estimator policy CartPole-v1 --steps 6000 --episodes 10 --hidden 8 --seeds 2 --jobs 2 "
        "--baseline mean,value --out out"
    ),
    # Its notes tell of a busy machine, and what is faster is measured.
    "linearize": Command(
        "model linearize transformer.py:model --max-error 0.2 --out out", ignored="notes|speeds", once=True
    ),
    "model-inspect": Command("model inspect lstm.py:model --report --out out"),
    "codebook-make": Command("codebook make --dim 96 --count 4000 --construction random-lines --out out.npz"),
    # Too few dimensions for that error, which it says.
    "codebook-project": Command(
        "codebook project digits --eps 0.5 --dim 48 --out out.npz --report", status=1
    ),
    "reproduce": Command("reproduce --only projection --seeds 2 --jobs 2 --out out"),
}


def prepared(folder: Path, name: str) -> Path:
    """A folder with what the commands read."""
    folder.mkdir()
    (folder / "f.py").write_text(_FUNCTION)
    for example in ("transformer.py", "transformer.safetensors", "lstm.py"):
        shutil.copy(HERE.parent / "examples" / example, folder)
    (folder / "data").mkdir()
    draw = random.Random(0)
    nodes = [f"n{i},{'xyz'[i % 3]},{draw.random():.3f},{i % 3 + draw.random():.3f}" for i in range(_NODES)]
    edges = [f"n{draw.randrange(_NODES)},n{(i * 3) % _NODES}" for i in range(3 * _NODES)]
    (folder / "data" / "nodes.csv").write_text("id,label,a,b\n" + "\n".join(nodes) + "\n")
    (folder / "data" / "edges.csv").write_text(
        "\n".join(edge for edge in edges if len(set(edge.split(","))) == 2) + "\n"
    )
    if name == "segment-predict":
        _pictures(folder)
    if name == "graph-convert":
        lines = (f"{draw.getrandbits(20)},{draw.getrandbits(20)}\n" for _ in range(2_000_000))
        (folder / "edges.csv").write_text("".join(lines))
    return folder


def _pictures(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir()
    draw = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(draw.integers(0, 255, (90, 120), dtype=np.uint8)).save(
            folder / "images" / f"{number}.png"
        )
    train = _SEGMENT.format("train") + " --count 40 --epochs 1 --threads 1 --out trained"
    finish(folder, train)


def begin(folder: Path, words: str) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, by which what it leaves behind is found."""
    environment = {**os.environ, "LAYERLAB_DATA": str(folder / "cache")}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(HERE / "kill_child.py"), *words.split()],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def finish(folder: Path, words: str, status: int = 0) -> None:
    """Run the command to its end; what it said is in the error where it fails."""
    process = begin(folder, words)
    if process.wait(SLOWEST) != status:
        said = (folder / "log.txt").read_text(errors="replace")[-1500:]
        raise RuntimeError(f"status {process.returncode}: layerlab {words}\n{said}")


def left(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def undisturbed(folder: Path, command: Command) -> tuple[float, float]:
    """Seconds until something appears on the disk, and until the end."""
    started = time.monotonic()
    process = begin(folder, command.words)
    first = None
    while process.poll() is None:
        if first is None and any(folder.glob("out*")):
            first = time.monotonic() - started
        time.sleep(0.02)
    if process.returncode != command.status:
        raise RuntimeError(f"status {process.returncode}: {(folder / 'log.txt').read_text()[-1500:]}")
    whole = time.monotonic() - started
    return first or 0.5 * whole, whole


def disturbed(folder: Path, command: Command, moments: list[float]) -> tuple[int, list[str]]:
    """Run the command, killed at each of these moments; how many kills met it alive, and what went wrong."""
    met, wrong = 0, []
    for moment in moments:
        if command.once and (folder / "out").exists():
            break
        process = begin(folder, _words(folder, command))
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            met += 1
        process.wait()
        ends = time.monotonic() + GONE_WITHIN
        while (orphans := left(process.pid)) and time.monotonic() < ends:
            time.sleep(0.1)
        if orphans:
            wrong.append(f"{len(orphans)} processes are left {GONE_WITHIN:g} s after the kill")
            for orphan in orphans:
                os.kill(orphan, signal.SIGKILL)
        if process.returncode not in (command.status, -signal.SIGKILL):
            said = (folder / "log.txt").read_text(errors="replace")[-1500:]
            wrong.append(f"status {process.returncode} after an earlier kill: {said}")
            return met, wrong
    if not (command.once and (folder / "out").exists()):
        try:
            finish(folder, _words(folder, command), command.status)
        except RuntimeError as error:
            wrong.append(str(error))
    return met, wrong


def _words(folder: Path, command: Command) -> str:
    there = (folder / "out" / "run.json").exists()
    return f"{command.words} {command.resume}" if there and command.resume else command.words


def differences(one: Path, other: Path, ignored: str) -> list[str]:
    """What differs between what two runs left behind."""
    names = {
        _relative(path, top) for top in (one, other) for path in top.glob("out*") for path in _files(path)
    }
    found = []
    for name in sorted(names):
        left, right = one / name, other / name
        if not left.exists() or not right.exists():
            found.append(f"{name} is only in {'the disturbed' if right.exists() else 'the undisturbed'} run")
        elif at := _differs(_content(left, one, ignored), _content(right, other, ignored)):
            found.append(f"{name} differs{at}")
    return found


def _differs(one: Any, other: Any) -> str:
    """Where two contents differ first; empty where they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            if at := _differs(one.get(name), other.get(name)):
                return f" .{name}{at}"
        return ""
    return "" if one == other else f": {str(one)[:60]!a} and {str(other)[:60]!a}"


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _relative(path: Path, top: Path) -> str:
    return str(path.relative_to(top))


def _content(path: Path, top: Path, ignored: str) -> Any:
    if path.suffix == ".json":
        # The two runs have read the same, each in its own folder.
        return _timeless(json.loads(path.read_text().replace(str(top.resolve()), "")), ignored)
    if path.suffix == ".jsonl":
        # Workers end in any order.
        lines = [_timeless(json.loads(line), ignored) for line in path.read_text().splitlines()]
        return sorted(lines, key=lambda line: line.get("n", 0))
    if path.suffix in (".html", ".md"):
        return None  # drawn from the records, times among them
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix == ".npz" and path.name == "out.npz":
        return _arrays(path)
    return path.read_bytes()


def _tensors(path: Path) -> Any:
    from safetensors import safe_open

    # Not the bytes: safetensors writes a header's words in any order.
    with safe_open(path, "np") as file:
        return {**(file.metadata() or {}), **{name: file.get_tensor(name).tobytes() for name in file.keys()}}  # noqa: SIM118


def _arrays(path: Path) -> Any:
    import numpy as np

    with np.load(path) as archive:
        return {
            name: archive[name].tobytes() if archive[name].dtype.kind != "U" else "words"
            for name in archive.files
        }


def _timeless(value: Any, ignored: str) -> Any:
    if isinstance(value, dict):
        kept = {name: entry for name, entry in value.items() if not TIMES.fullmatch(name)}
        return {
            name: _timeless(entry, ignored) for name, entry in kept.items() if not re.fullmatch(ignored, name)
        }
    return [_timeless(entry, ignored) for entry in value] if isinstance(value, list) else value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], help="commands whose names begin so")
    parser.add_argument("--seconds", type=float, default=0.0, help="rounds until then; at least one")
    parser.add_argument("--kills", type=int, default=3, help="of a command in a round")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    names = [name for name in COMMANDS if not asked.only or name.startswith(tuple(asked.only))]
    if not names:
        parser.error(f"no such command; there are {', '.join(COMMANDS)}")
    ends = time.monotonic() + asked.seconds
    wrong = kills = rounds = 0
    with tempfile.TemporaryDirectory() as top:
        spans = {}
        while rounds == 0 or time.monotonic() < ends:
            for name in names:
                command = COMMANDS[name]
                calm = Path(top) / f"{name}-calm"
                if name not in spans:
                    spans[name] = undisturbed(prepared(calm, name), command)
                first, whole = spans[name]
                draw = random.Random(f"{asked.seed} {rounds} {name}")
                moments = [
                    draw.uniform(min(0.8 * first, 0.5 * whole), 1.02 * whole) for _ in range(asked.kills)
                ]
                killed = prepared(Path(top) / f"{name}-{rounds}", name)
                met, problems = disturbed(killed, command, moments)
                problems += differences(calm, killed, command.ignored)
                kills += met
                wrong += bool(problems)
                times = ", ".join(f"{moment:.1f}" for moment in moments)
                print(
                    f"{name}: {whole:.1f} s, killed {met} of {asked.kills} times ({times} s): "
                    f"{'the same' if not problems else 'DIFFERENT'}",
                    flush=True,
                )
                for problem in problems:
                    print(f"    {problem}", flush=True)
                shutil.rmtree(killed)
            rounds += 1
    print(f"{len(names)} commands, {rounds} rounds, {kills} kills, {wrong} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
