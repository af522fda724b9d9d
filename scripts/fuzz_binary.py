"""Ways to spoil arrays, weights and pictures: what they mean, and the frames that they come in."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_text import WORDS, spoiled_json, written
from PIL import Image

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


def npy(path: Path, rng: Random) -> str:
    if rng.random() < 0.2:
        shape = rng.choice([(2**40, 4), (2**62, 2**62), (0, 2**60), (10**9,)])
        path.write_bytes(_npy_header(shape) + b"1234")
        return f"announces {shape}"
    new, done = _odd(np.load(path), rng)
    np.save(path, new, allow_pickle=True)
    return done


def npz(path: Path, rng: Random) -> str:
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


def safetensors(path: Path, rng: Random) -> str:
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
    encoded = written(header)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return done


# ---------------------------------------------------------------- pictures


def picture(path: Path, rng: Random) -> str:
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


def png_size(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    if content[:4] != b"\x89PNG":
        raise ValueError("no PNG")
    size = (rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 60_000]), rng.choice([0, 1, 5, 2**31, 60_000]))
    content[16:24] = struct.pack(">II", *size)
    content[24:26] = bytes(rng.choice([(8, 2), (8, 0), (1, 3), (16, 6), (3, 3), (8, 9)]))
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return f"says {size}"


def name(path: Path, rng: Random) -> str:
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
