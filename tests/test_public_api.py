"""What users may rely on changes only on purpose: names and signatures are compared with the list in the repository."""

from __future__ import annotations

import ast
import difflib
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import layerlab

from .loading import program

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "layerlab"
LAZY = sorted(
    path for path in PACKAGE.glob("*/**/__init__.py") if "on_first_use(" in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return program("scripts/build_public_api.py")


def test_names_and_signatures_are_those_of_the_list(builder: ModuleType) -> None:
    listed = builder.FILE.read_text(encoding="utf-8").splitlines()
    changed = list(
        difflib.unified_diff(listed, builder.text().splitlines(), "listed", "found", lineterm="", n=0)
    )
    assert not changed, (
        "the public interface changed; on purpose? then heed CONTRIBUTING.md, 'What users may rely on', and run "
        "`.venv/bin/python scripts/build_public_api.py`:\n" + "\n".join(changed)
    )


def test_a_changed_default_a_lost_name_and_a_lost_member_are_seen(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerlab import claims, graph

    before = builder.text()
    monkeypatch.setattr(claims, "exact", lambda reason="none": reason)
    monkeypatch.setattr(claims, "__all__", [name for name in claims.__all__ if name != "rounding"])
    monkeypatch.delattr(graph.Graph, "from_edges")
    lost = set(before.splitlines()) - set(builder.text().splitlines())
    names = ("layerlab.claims.exact(", "layerlab.claims.rounding(", "layerlab.graph.Graph.from_edges(")
    assert sorted(line.split("(")[0] + "(" for line in lost) == list(names)


def test_signatures_name_no_address_and_no_passing_object(builder: ModuleType) -> None:
    assert " at 0x" not in builder.text()


def test_every_room_is_an_attribute_of_the_package() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}
    assert rooms <= set(dir(layerlab))
    for room in rooms:
        assert getattr(layerlab, room).__name__ == f"layerlab.{room}"


def test_the_rooms_import_on_first_use() -> None:
    assert len(LAZY) == 9


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.relative_to(PACKAGE).as_posix())
def test_what_is_imported_on_first_use_keeps_its_type(path: Path) -> None:
    """A type checker sees no more than Any behind ``__getattr__``, unless the import stands under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    name = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    assert set(importlib.import_module(name).__all__) <= seen
