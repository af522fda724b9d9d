"""Writes tests/public_api.txt: what users may rely on, by name and signature (CONTRIBUTING.md says how it may change).

Public are `layerlab.errors.UserError`, what a module of the package lists in ``__all__``, and what the documents and
the example files import by name; of a class also its public methods and properties. So is what each claim asserts.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "layerlab"
FILE = ROOT / "tests" / "public_api.txt"
_IMPORT = re.compile(r"^\s*(?:>>> )?from (layerlab[\w.]*) import (\w+(?:, \w+)*)", re.MULTILINE)


def public_names() -> dict[str, Any]:
    """Dotted name to object, sorted."""
    found = {("layerlab.errors", "UserError")}
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search("^__all__", path.read_text(encoding="utf-8"), re.MULTILINE):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
                ".__init__"
            )
            found |= {(module, name) for name in importlib.import_module(module).__all__}
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]:
        for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
            found |= {(module, name) for name in names.split(", ")}
    # A submodule that was not loaded yet is no attribute; loading it makes it one.
    for module, name in found:
        if (PACKAGE.parent.joinpath(*module.split("."), name)).is_dir():
            importlib.import_module(f"{module}.{name}")
    return {
        f"{module}.{name}": getattr(importlib.import_module(module), name) for module, name in sorted(found)
    }


def lines() -> Iterator[str]:
    """One a claim, one a name, and one a public member of a class of ours."""
    from layerlab.catalogue import catalogue

    for claim in catalogue().values():
        extreme = f", the {claim.extreme} value" if claim.extreme else ""
        yield f"claim {claim.id}: measured {claim.relation} bound{extreme}, {claim.expected}"
    first: dict[int, str] = {}
    for name, value in public_names().items():
        if first.setdefault(id(value), name) != name:
            yield f"{name} = {first[id(value)]}"
        else:
            yield from _described(name, value)


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.ismodule(value):
        yield f"{name}: module"
    elif isinstance(value, type):
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        yield f"class {name}({', '.join(bases)})"
        if issubclass(value, Enum):
            yield f"{name}: {', '.join(value.__members__)}"
        elif any("__init__" in vars(base) for base in _ours(value)):
            yield f"{name}.__init__{_signature(value.__init__)}"
        for member in sorted(_own(value)):
            yield from _member(f"{name}.{member}", inspect.getattr_static(value, member, None))
    elif callable(value) and hasattr(value, "__qualname__"):
        yield f"{name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _own(value: type) -> set[str]:
    names = (name for base in _ours(value) for name in (*vars(base), *vars(base).get("__annotations__", {})))
    return {name for name in names if name[0] != "_"}


def _ours(value: type) -> list[type]:
    """The class and its bases, but for torch's, say."""
    return [base for base in value.__mro__ if base.__module__.partition(".")[0] == "layerlab"]


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property | functools.cached_property):
        function = value.fget if isinstance(value, property) else value.func
        yield f"{name}: property -> {inspect.signature(function).return_annotation}"  # type: ignore[arg-type]
    elif isinstance(value, classmethod | staticmethod):
        yield f"{name}{_signature(value.__func__)}  # {type(value).__name__}"
    elif inspect.isfunction(value):
        yield f"{name}{_signature(value)}"
    else:
        yield f"{name}: attribute"


def _signature(function: Any) -> str:
    """As it is written; defaults that are functions or objects by their names."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(default=_default(parameter.default), annotation=_bare(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=_bare(signature.return_annotation)))


class _Text:
    """Shown without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _bare(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _default(value: Any) -> Any:
    if isinstance(value, str | int | float | tuple | None | type):
        return value
    name = getattr(value, "__qualname__", repr(value))
    return _Text("(an object)" if "<" in name else name)


def text() -> str:
    """The content of the file."""
    return "".join(f"{line}\n" for line in lines())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)} written", file=sys.stderr)
