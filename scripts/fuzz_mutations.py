"""Ways to spoil a file: bytes of any file, and what a file means where its form is known."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

WORDS = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "-1e-400",
    "9" * 25,
    "9" * 400,
    "0x10",
    "1_000",
    "٣",
    "½",
    "true",
    "null",
    "None",
    "é",
    "日本",
    "🙂",
    "a\x00b",
    "\x1b[31mred",
    "\u202egnirts",
    "\ufeff",
    "a,b",
    'a"b',
    "a;b",
    "a\tb",
    "a\nb",
    "a\rb",
    "../../x",
    "/",
    "x" * 3000,
    "#",
    "=1+1",
    "{}",
    "[]",
    "%s",
    "{0}",
    "\ud800",
    "<b>&",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e308,
    1e-320,
    [],
    {},
    [[]],
    [None],
    "",
    "x",
    {"a": 1},
    [1, 2, 3],
    *WORDS,
]
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


def spoiled_word(word: str, rng: Random) -> str:
    """A text argument, spoiled."""
    way = rng.randrange(5)
    if way == 0 or not word:
        return rng.choice(WORDS).replace("\x00", "").encode("utf-8", "replace").decode()
    place = rng.randrange(len(word))
    if way == 1:
        return word[:place]
    if way == 2:
        return word[:place] + rng.choice("0-9,:x=.*#%[](){}é\\^ ") + word[place:]
    if way == 3:
        return word[:place] + str(rng.choice([0, -1, 10**9, 10**30, "1e400", "nan"])) + word[place + 1 :]
    return word + rng.choice([",", ":", "=", word, "," + word, " "])


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


# ---------------------------------------------------------------- JSON


def _nodes(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    if isinstance(value, dict):
        for key, entry in value.items():
            found += _nodes(entry, (*at, key))
    elif isinstance(value, list):
        for place, entry in enumerate(value[:30]):
            found += _nodes(entry, (*at, place))
    return found


def spoiled_json(value: Any, rng: Random) -> tuple[Any, str]:
    """A JSON value with one node changed, gone, renamed or doubled, and which."""
    at = rng.choice(_nodes(value))
    way = rng.choice(["change", "change", "change", "near", "gone", "renamed", "wrapped"])
    if not at:
        new = rng.choice(VALUES)
        return new, f"whole = {str(new)[:20]!a}"
    parent = value
    for step in at[:-1]:
        parent = parent[step]
    old = parent[at[-1]]
    if way == "gone":
        del parent[at[-1]]
    elif way == "renamed" and isinstance(parent, dict):
        parent[rng.choice(WORDS)] = parent.pop(at[-1])
    elif way == "wrapped":
        parent[at[-1]] = rng.choice([[old], {"a": old}, [old, old]])
    elif way == "near" and isinstance(old, (int, float)):
        parent[at[-1]] = rng.choice(
            [-old, old + 1, old * 1000, old * 10**15, float(old), str(old), old + 0.5]
        )
    elif way == "near" and isinstance(old, str):
        parent[at[-1]] = spoiled_word(old, rng)
    elif way == "near" and isinstance(old, list):
        parent[at[-1]] = rng.choice([old[:-1], old * 2, old[::-1], [str(entry) for entry in old]])
    else:
        parent[at[-1]] = rng.choice(VALUES)
    return (
        value,
        f"{way} at {'.'.join(map(str, at))} -> {str(parent[at[-1]])[:20]!a}" if way != "gone" else f"no {at}",
    )


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _json(path: Path, rng: Random) -> str:
    value, done = spoiled_json(json.loads(path.read_text()), rng)
    path.write_bytes(_written(value))
    return done


def _json_text(path: Path, rng: Random) -> str:
    text = path.read_text()
    way = rng.randrange(6)
    if way == 0:
        deep = rng.choice([500, 5_000, 200_000])
        path.write_text("[" * deep + "]" * deep)
        return f"{deep} deep"
    if way == 1:
        path.write_text('{"a":' * 3000 + "1" + "}" * 3000)
        return "deep objects"
    numbers = [place for place, letter in enumerate(text) if letter.isdigit()]
    place = rng.choice(numbers or [0])
    put = rng.choice(["NaN", "-Infinity", "9" * 5000, "1e999", "-", "0" * 30, "1.", '"\\ud800"', '"\\u0000"'])
    path.write_text(text[:place] + put + text[place + 1 :])
    return put[:20]


def _jsonl(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    way = rng.choice(["value", "value", "value", "gone", "twice", "moved", "cut", "blank"])
    done = way
    if way == "value":
        value, done = spoiled_json(json.loads(lines[place]), rng)
        lines[place] = _written(value).decode("utf-8", "surrogateescape")
    elif way == "gone":
        del lines[place]
    elif way == "twice":
        lines.insert(place, lines[place])
    elif way == "moved":
        lines.append(lines.pop(place))
    elif way == "cut":
        lines[place] = lines[place][: len(lines[place]) // 2]
    else:
        lines.insert(place, "")
    end = rng.choice(["\n", "\n", ""])
    path.write_bytes(("\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    return done


# ---------------------------------------------------------------- tables


def _table(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    cells = lines[place].split(",")
    way = rng.choice(
        ["cell", "cell", "cell", "cell", "heading", "fewer", "more", "swap", "mark", "huge", "quote", "row"]
    )
    done = way
    if way == "cell":
        word = rng.choice(WORDS)
        cells[rng.randrange(len(cells))] = word
        done = f"cell {word[:12]!a}"
    elif way == "heading":
        place, cells = 0, lines[0].split(",")
        cells[rng.randrange(len(cells))] = rng.choice([*WORDS, cells[-1], cells[0]])
    elif way == "fewer":
        cells.pop()
    elif way == "more":
        cells.append(rng.choice(WORDS))
    elif way == "swap":
        rng.shuffle(lines)
        cells = lines[place].split(",")
    elif way == "huge":
        cells[rng.randrange(len(cells))] = "7" * rng.choice([5_000, 140_000])
    elif way == "quote":
        cells[0] = '"' + cells[0]
    elif way == "row":
        lines.insert(place, lines[place])
    lines[place] = ",".join(cells)
    if way == "mark":
        lines = [line.replace(",", rng.choice(";\t| ")) for line in lines]
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    return done


# ---------------------------------------------------------------- arrays


def _odd(array: np.ndarray[Any, Any], rng: Random) -> tuple[np.ndarray[Any, Any], str]:
    way = rng.choice(
        [
            "float16",
            "complex64",
            "int8",
            "uint64",
            ">f8",
            "bool",
            "U5",
            "S3",
            "M8[s]",
            "object",
            "record",
            "longdouble",
            "flat",
            "scalar",
            "empty",
            "more",
            "row",
            "nan",
            "inf",
            "huge",
            "tiny",
            "zero",
            "negative",
            "fortran",
            "step",
            "constant",
        ]
    )
    with np.errstate(all="ignore"):
        if way in ("flat", "scalar", "empty", "more", "row"):
            new = {
                "flat": lambda: array.reshape(-1),
                "scalar": lambda: np.array(array.reshape(-1)[0]),
                "empty": lambda: array[:0],
                "more": lambda: array[None],
                "row": lambda: array[:1],
            }[way]()
        elif way in ("nan", "inf", "huge", "tiny", "zero", "negative", "constant"):
            if array.dtype.kind not in "iuf":
                raise ValueError("no numbers")
            real = {
                "nan": np.nan,
                "inf": -np.inf,
                "huge": 1e300,
                "tiny": 1e-300,
                "zero": 0,
                "negative": -1,
                "constant": 1,
            }
            whole = {
                "nan": -(2**62),
                "inf": 2**62,
                "huge": 2**40,
                "tiny": 2**31,
                "zero": 0,
                "negative": -1,
                "constant": 1,
            }
            new = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
            value = (real if array.dtype.kind == "f" else whole)[way]
            if rng.random() < 0.5 and new.ndim and new.size:
                new.reshape(-1)[rng.randrange(new.size)] = value
            else:
                new = np.full_like(new, value)
        elif way == "fortran":
            new = np.asfortranarray(array)
        elif way == "step":
            new = array[::-1] if array.ndim else array
        elif way == "record":
            new = np.zeros(array.shape, dtype=[("a", "f4"), ("b", "i4")])
        elif way == "object":
            new = array.astype(object)
        else:
            new = array.astype(way)
    return new, way


def _npy_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _npy(path: Path, rng: Random) -> str:
    if rng.random() < 0.2:
        shape = rng.choice([(2**40, 4), (2**62, 2**62), (0, 2**60), (10**9,)])
        path.write_bytes(_npy_header(shape) + b"1234")
        return f"announces {shape}"
    new, done = _odd(np.load(path), rng)
    np.save(path, new, allow_pickle=True)
    return done


def _npz(path: Path, rng: Random) -> str:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    way = rng.choice(["odd", "odd", "odd", "odd", "gone", "renamed", "added", "announced", "zip", "string"])
    done = f"{name} {way}"
    if way == "odd":
        arrays[name], done = _odd(arrays[name], rng)
        done = f"{name} {done}"
    elif way == "gone":
        del arrays[name]
    elif way == "renamed":
        arrays[rng.choice(["x", "é", "../a", "a/b", "self", "arr_1", "vectors"])] = arrays.pop(name)
    elif way == "added":
        arrays[rng.choice(["x", "é", "weight", "train", "vectors2"])] = rng.choice(list(arrays.values()))
    elif way == "string":
        arrays[name] = np.array(rng.choice(WORDS).replace("\x00", "").encode("utf-8", "replace").decode())
    if way not in ("announced", "zip"):
        np.savez(path, allow_pickle=True, **arrays)
        return done
    with zipfile.ZipFile(
        path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    ) as archive:
        for key, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array)
            content = stream.getvalue()
            if key == name and way == "announced":
                content = _npy_header(rng.choice([(2**40,), (2**62, 2**62), (0, 2**60), (10**8,)])) + b"1234"
            archive.writestr(f"{key}.npy" if key != name or way == "announced" else key, content)
    return done


def _safetensors(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.15:
        length = rng.choice([0, 1, 2**40, 2**63, length + 1, length - 1])
        path.write_bytes(struct.pack("<Q", length) + content[8:])
        return f"header length {length}"
    if rng.random() < 0.3 and "progress" in header.get("__metadata__", {}):
        progress, done = spoiled_json(json.loads(header["__metadata__"]["progress"]), rng)
        header["__metadata__"]["progress"] = json.dumps(progress)
    elif rng.random() < 0.3:
        data, done = np.random.default_rng(rng.randrange(1000)).bytes(len(data)), "random data"
    else:
        header, done = spoiled_json(header, rng)
    written = _written(header)
    path.write_bytes(struct.pack("<Q", len(written)) + written + data)
    return done


# ---------------------------------------------------------------- pictures


def _picture(path: Path, rng: Random) -> str:
    with Image.open(path) as opened:
        image = opened.copy()
    way = rng.choice(
        [
            "1",
            "L",
            "LA",
            "P",
            "RGBA",
            "I;16",
            "I",
            "F",
            "CMYK",
            "turned",
            "point",
            "long",
            "large",
            "odd",
            "suffix",
            "GIF",
            "WEBP",
            "frames",
        ]
    )
    form = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP"}[path.suffix.lower()]
    if way == "turned":
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(0, 12)
        image.save(path, form, exif=exif)
    elif way in ("point", "long", "large", "odd"):
        size = {"point": (1, 1), "long": (1, 3000), "large": (2000, 2000), "odd": (13, 7)}[way]
        image.resize(size).save(path, form)
    elif way == "suffix":
        image.save(path, rng.choice(["PNG", "BMP", "TIFF"]))
    elif way in ("GIF", "WEBP"):
        image.convert("RGB").save(path, way)
    elif way == "frames":
        image.save(path, "TIFF", save_all=True, append_images=[image, image])
    else:
        image.convert("L").convert("I").convert(way).save(path, form) if way == "I;16" else image.convert(
            way
        ).save(path, form)
    return way


def _png_size(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    if content[:4] != b"\x89PNG":
        raise ValueError("no PNG")
    size = (rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 60_000]), rng.choice([0, 1, 5, 2**31, 60_000]))
    content[16:24] = struct.pack(">II", *size)
    content[24:26] = bytes(rng.choice([(8, 2), (8, 0), (1, 3), (16, 6), (3, 3), (8, 9)]))
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return f"says {size}"


def _name(path: Path, rng: Random) -> str:
    new = rng.choice(
        [
            b"\xff\xfe.png",
            "日本.png".encode(),
            b"a b.png",
            b"-o.png",
            b".png",
            b"x" * 250 + b".png",
            b"a\nb.png",
            b"\x1b[31m.png",
            b"A.PNG",
            b"photo.jpeg",
            b"%s.png",
            b"..png",
            b"con.png",
        ]
    )
    shutil.move(os.fsencode(path), os.path.join(os.fsencode(path.parent), new))  # noqa: PTH118 (bytes)
    return f"renamed {new[:20]!r}"


# ---------------------------------------------------------------- pickles and Python


def _pickle(path: Path, rng: Random) -> str:
    value = rng.choice(
        [pickle.loads, os.system, print, {"a": [1]}, [[[]]], 10**400, np.float64, b"", "x", {1: {2}}]
    )
    path.write_bytes(pickle.dumps(value, protocol=rng.choice([0, 2, 4])))
    return f"{value!r}"[:30]


def _python(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    way = rng.choice(["gone", "moved", "indent", "raise", "exit", "nul", "star"])
    place = rng.randrange(len(lines))
    if way == "gone":
        del lines[place]
    elif way == "moved":
        lines.append(lines.pop(place))
    elif way == "indent":
        lines[place] = " " + lines[place]
    elif way == "star":
        lines[place] = lines[place].replace("x", "*x", 1)
    else:
        lines.insert(
            place,
            {"raise": "raise BaseException('ab\\ncd')", "exit": "import sys; sys.exit(3)", "nul": "\x00"}[
                way
            ],
        )
    path.write_text("\n".join(lines))
    return way


_FORMS: dict[str, list[Callable[[Path, Random], str]]] = {
    ".json": [_json, _json, _json_text],
    ".jsonl": [_jsonl],
    ".csv": [_table],
    ".npy": [_npy],
    ".npz": [_npz],
    ".safetensors": [_safetensors],
    ".png": [_picture, _png_size, _name],
    ".jpg": [_picture, _name],
    ".tif": [_picture],
    ".bmp": [_picture],
    ".pickle": [_pickle],
    ".py": [_python],
}
