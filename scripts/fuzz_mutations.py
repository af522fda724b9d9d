"""Ways to spoil a file: bytes of any file, and what a file means where its form is known."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from fuzz_binary import name, npy, npz, picture, png_size, safetensors
from fuzz_text import json_lines, json_text, json_value, python, table

_INTERESTING = [
    b"\x00",
    b"\xff",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"{",
    b"]",
]


def spoil(path: Path, rng: Random) -> str:
    """Spoil a file in place; what was done, in a few words."""
    ways = [_bytes, _whole, *(_FORMS.get(path.suffix.lower(), []) * 2)]
    for _ in range(8):
        way = rng.choice(ways)
        try:
            return f"{path.name}: {way.__name__.strip('_')}: {way(path, rng)}"
        except (ValueError, KeyError, IndexError, TypeError, OSError, OverflowError, EOFError) as error:
            # The file is not of the form that this way needs, after an earlier one.
            last = error
    return f"{path.name}: unchanged ({last})"


def _bytes(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    times = rng.choice([1, 1, 1, 2, 5, 30])
    for _ in range(times):
        place = rng.randrange(len(content) + 1)
        way = rng.randrange(6)
        if way == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif way == 1 and place < len(content):
            content[place] = rng.randrange(256)
        elif way == 2:
            content[place:place] = rng.choice(_INTERESTING)
        elif way == 3:
            del content[place : place + rng.choice([1, 2, 8, 64])]
        elif way == 4:
            other = rng.randrange(len(content) + 1)
            content[place:place] = content[other : other + rng.choice([1, 4, 16, 100])]
        else:
            content[place : place + 4] = rng.choice(_INTERESTING)
    path.write_bytes(content)
    return f"{times} places"


def _whole(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    way = rng.choice(
        [
            "truncated",
            "truncated",
            "truncated",
            "empty",
            "twice",
            "zeros",
            "tail",
            "utf16",
            "latin",
            "bom",
            "crlf",
            "folder",
            "dangling",
            "loop",
            "text",
            "random",
            "away",
        ]
    )
    if way in ("folder", "dangling", "loop", "away"):
        path.unlink()
        if way == "folder":
            path.mkdir()
        elif way != "away":
            path.symlink_to(path.name if way == "loop" else "nowhere")
        return way
    changed = {
        "truncated": content[: rng.randrange(len(content) + 1)],
        "empty": b"",
        "twice": content * 2,
        "zeros": bytes(len(content)),
        "tail": content + rng.randbytes(rng.randrange(1, 50)),
        "utf16": content.decode("latin-1").encode("utf-16"),
        "latin": content.replace(b"a", "é".encode("latin-1")),
        "bom": b"\xef\xbb\xbf" + content,
        "crlf": content.replace(b"\n", b"\r\n" if rng.random() < 0.5 else b"\r"),
        "text": b"version https://git-lfs\n",
        "random": rng.randbytes(len(content)),
    }[way]
    path.write_bytes(changed)
    return way


# ---------------------------------------------------------------- pickles and Python


def _pickle(path: Path, rng: Random) -> str:
    value = rng.choice(
        [pickle.loads, os.system, print, {"a": [1]}, [[[]]], 10**400, np.float64, b"", "x", {1: {2}}]
    )
    path.write_bytes(pickle.dumps(value, protocol=rng.choice([0, 2, 4])))
    return f"{value!r}"[:30]


_FORMS: dict[str, list[Callable[[Path, Random], str]]] = {
    ".json": [json_value, json_value, json_text],
    ".jsonl": [json_lines],
    ".csv": [table],
    ".npy": [npy],
    ".npz": [npz],
    ".safetensors": [safetensors],
    ".png": [picture, png_size, name],
    ".jpg": [picture, name],
    ".tif": [picture],
    ".bmp": [picture],
    ".pickle": [_pickle],
    ".py": [python],
}
