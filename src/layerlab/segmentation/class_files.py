"""Classes from a file: which mask values or colours are which class."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from layerlab.errors import UserError
from layerlab.lab.json_files import read_json
from layerlab.segmentation.masks import Classes

_IGNORED = "ignore"
_LARGEST_BYTES = 2**20
_FORMS = "value,name or r,g,b,name"
_CHANNEL = re.compile(r"[0-9]{1,3}")


def read_classes(path: str | Path, ignore: str = "") -> Classes:
    """Classes from ``.json`` or ``.csv``.

    JSON: ``{"classes": {"flower": [1], "rest": ["2-4"]}, "ignore": [0, 5]}``, or the inner ``{"flower": [1], ...}``
    alone. CSV: a heading with ``name`` and ``value`` (or ``r``, ``g``, ``b``); several rows may have one name; the
    name ``ignore`` ignores.

    Args:
        path: the file.
        ignore: further values to ignore, as `Classes.parse` takes them.

    Raises:
        UserError: the file cannot be read or is not of that form, with its line where there is one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "classes.csv"
    ...     _ = file.write_text("r,g,b,name\\n255,0,0,roof\\n0,0,0,ignore\\n")
    ...     read_classes(file).to_dict()["classes"]
    {'roof': ['#ff0000']}
    """
    path = Path(path)
    further = ignore.split(",") if ignore.strip() else []
    if path.suffix.lower() == ".json":
        classes, ignored = _from_json(read_json(path), path)
    elif path.suffix.lower() == ".csv":
        classes, ignored = _from_csv(_text(path), path)
    else:
        raise UserError("expected a .json or .csv file of classes; rename it", file=path)
    try:
        return Classes.given(classes, [*ignored, *further])
    except UserError as error:
        raise UserError(str(error), file=path) from None


def _from_json(record: Any, path: Path) -> tuple[dict[str, list[Any]], list[Any]]:
    inner = record.get("classes") if isinstance(record, dict) and "classes" in record else record
    ignored = record.get("ignore", []) if inner is not record else []
    if not isinstance(inner, dict) or not isinstance(ignored, (list, int, str)):
        raise UserError('expected {"classes": {"NAME": [VALUES]}, "ignore": [VALUES]}', file=path)
    return {name: _values(values, path) for name, values in inner.items()}, _values(ignored, path)


def _values(values: Any, path: Path) -> list[Any]:
    found = values if isinstance(values, list) else [values]
    for value in found:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UserError(f"expected mask values such as 1, '3-5' or '#ff0000', got {value!r}", file=path)
    return [item for value in found for item in str(value).split(",")]


def _from_csv(text: str, path: Path) -> tuple[dict[str, list[Any]], list[Any]]:
    lines = csv.reader(io.StringIO(text))
    classes: dict[str, list[Any]] = {}
    ignored: list[Any] = []
    heading: list[str] = []
    try:
        for row in lines:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not heading:
                heading = [cell.lower() for cell in cells]
                if "name" not in heading or not ("value" in heading or {"r", "g", "b"} <= set(heading)):
                    raise UserError(
                        f"expected the heading {_FORMS}, got {','.join(cells)}",
                        file=path,
                        line=lines.line_num,
                    )
                continue
            if len(cells) != len(heading):
                raise UserError(
                    f"expected {len(heading)} cells, got {len(cells)}", file=path, line=lines.line_num
                )
            entry = dict(zip(heading, cells, strict=True))
            if not entry["name"]:
                raise UserError("expected a name", file=path, line=lines.line_num)
            code = entry["value"] if "value" in entry else _colour(entry, path, lines.line_num)
            (ignored if entry["name"] == _IGNORED else classes.setdefault(entry["name"], [])).append(code)
    except csv.Error as error:
        raise UserError(f"expected CSV ({error})", file=path, line=lines.line_num) from error
    if not classes:
        raise UserError(f"expected a heading ({_FORMS}) and a row for every class", file=path)
    return classes, ignored


def _colour(entry: dict[str, str], path: Path, line: int) -> str:
    parts = [entry[channel] for channel in "rgb"]
    if not all(_CHANNEL.fullmatch(part) and int(part) < 256 for part in parts):
        raise UserError(f"expected r, g and b from 0 to 255, got {','.join(parts)}", file=path, line=line)
    red, green, blue = map(int, parts)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise UserError(
                f"expected classes in at most {_LARGEST_BYTES:,} bytes, got more; is this the file?",
                file=path,
            )
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError("there is no such file; check the path", file=path) from error
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error}); check the path", file=path) from error
    except UnicodeDecodeError as error:
        raise UserError("expected text in UTF-8; save it so", file=path) from error
