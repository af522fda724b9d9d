"""JSON on disk, strict both ways: written whole or not at all, and nothing else than JSON is read.

JSON knows neither NaN nor infinity: a non-finite number is written as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.files import write_atomic


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as JSON, whole or not at all.

    Args:
        path: the file to write; its folder must exist.
        obj: dicts with string keys, lists, tuples, strings, numbers, booleans and None; numpy numbers and
            arrays are written as plain ones. NaN and infinities become null.

    Raises:
        UserError: the file cannot be written.
        TypeError: ``obj`` holds something that JSON cannot.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "a.json", {"loss": float("nan"), "seeds": (0, 1)})
    ...     read_json(Path(folder) / "a.json")
    {'loss': None, 'seeds': [0, 1]}
    """
    write_atomic(path, _encode(obj))


def read_json(path: str | Path) -> Any:
    """Read one JSON file; anything else than strict JSON in UTF-8 is refused.

    Args:
        path: the file to read.

    Returns:
        What it holds.

    Raises:
        UserError: the file is missing, cannot be read or is not JSON; with the line where there is one.

    >>> read_json("nowhere.json")
    Traceback (most recent call last):
    ...
    layerlab.errors.UserError: nowhere.json: there is no such file; check the path
    """
    path = Path(path)
    try:
        return json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise UserError("there is no such file; check the path", file=path) from error
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error}); check the path", file=path) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"expected JSON, but the file is damaged: {error.msg}", file=path, line=error.lineno
        ) from error
    except (ValueError, RecursionError) as error:
        # Not UTF-8, NaN, a number of thousands of digits, brackets nested without end.
        raise UserError(f"expected JSON, but the file is damaged: {error}", file=path) from error


def as_json(obj: Any) -> Any:
    """``obj`` as one reads it again after `write_json`.

    >>> as_json({"loss": float("nan"), "seeds": (0, 1)})
    {'loss': None, 'seeds': [0, 1]}
    """
    return json.loads(_encode(obj))


def _plain(value: Any) -> Any:
    """``value`` in the types of JSON; non-finite numbers as None, numpy's as Python's."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"JSON keys are strings, got {key!r}")
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _encode(obj: Any) -> bytes:
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) has no UTF-8.
    return (text + "\n").encode("utf-8", errors="replace")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
