"""The directions in which modules may import each other (docs/decisions/0001-rooms-and-directions.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# Who may import whom, room by room. A new room must be entered here, or the test fails.
GROUND = {"errors": set(), "claims": {"errors", "lab"}, "lab": {"errors", "claims"}}
DOMAINS = {"attention", "estimators", "gradflow", "graph", "projection", "segmentation"}
DOMAIN_MAY = {"errors", "claims", "lab"}
ROOF = {
    "catalogue": {*GROUND, *DOMAINS},
    "reproduce": {*GROUND, *DOMAINS, "catalogue"},
    "cli": {*GROUND, *DOMAINS, "catalogue", "reproduce"},
    "__main__": {"cli"},
    "__init__": set(),
}
ROOMS = {**GROUND, **dict.fromkeys(DOMAINS, DOMAIN_MAY), **ROOF}

# Within a domain: a module imports at its top level only modules that stand before it. (Imports inside
# functions may point back: `Graph.from_csv` hands over to `convert`, which builds a `Graph`.)
GRAPH_RANKS = (
    (
        "attention_measures",
        "basis",
        "edge_table",
        "edges",
        "factor",
        "kernels",
        "known",
        "reference",
        "settings",
        "sparse",
        "unpickle",
    ),
    ("lanczos", "parts", "products"),
    ("ends", "field", "ops", "structure"),
    (
        "attention",
        "attention_findings",
        "attention_page",
        "components",
        "convolution",
        "homophily",
        "loss",
        "matrices",
        "node_data",
        "npz",
        "powers",
        "reordering",
    ),
    ("density", "extremes", "layers", "limit", "store"),
    ("quadrature",),
    (
        "archive",
        "convert",
        "course",
        "depth",
        "folder",
        "interop",
        "models",
        "planetoid",
        "spectrum",
        "splits",
    ),
    ("datasets", "download", "generate", "model_loss"),
    ("task",),
    ("sampling",),
    ("citation", "depth_prediction", "depth_training", "experiments", "sources", "theorems"),
    ("depth_advice", "runs"),
    ("attention_report", "inspection", "inspection_page", "prediction", "racing"),
)
GRADFLOW_RANKS = (
    ("jacobi", "linear_maps", "points"),
    ("block_krylov", "evaluation", "lanczos"),
    ("flow", "singular_values", "trace"),
    ("activations", "chain", "products"),
    ("bounds", "monitoring"),
    ("jacobians", "path", "prefixes", "recurrent"),
    ("measurement",),
    ("layer_profile",),
    ("verdict",),
    ("gradients",),
    ("profiling",),
    ("remedies",),
    ("inspection",),
    ("theorems",),
)
ATTENTION_RANKS = (
    ("arguments", "features", "masks", "measures", "unseen"),
    ("calls", "chunked", "reference", "softmax"),
    ("kernels",),
    ("exported", "linear", "low_rank", "nystrom", "projection", "relative"),
    ("convolution", "mechanisms", "ops"),
    ("heads", "interop", "watching"),
    ("crossover", "layers", "prediction"),
    ("inspection",),
    ("linearize",),
    ("theorems",),
)
ESTIMATORS_RANKS: tuple[tuple[str, ...], ...] = (
    ("draws", "values"),
    ("families",),
    ("distributions", "estimator"),
    ("derivative", "pairs", "relaxation", "score"),
    ("relaxed",),
    ("estimation",),
    ("space",),
    ("bias", "enumeration"),
    ("calls", "coupling", "recommend", "trials"),
    ("variance",),
    ("curves", "evaluation"),
    ("inspection", "optimise", "policy"),
    ("theorems",),
)
PROJECTION_RANKS: tuple[tuple[str, ...], ...] = (
    ("binary_fields", "bounds", "kernels", "memory", "pairs", "rows", "tails"),
    ("certificate", "distortion", "hadamard", "maps", "packing"),
    ("cosets", "document", "frames", "layers", "simplex"),
    ("kerdock", "signs", "transform"),
    ("choice",),
    ("building",),
    ("archive", "codebooks"),
    ("inspection", "projecting"),
    ("theorems",),
)
SEGMENTATION_RANKS: tuple[tuple[str, ...], ...] = (
    ("dataset", "images", "known", "shared_norm"),
    ("digits", "kernels", "losses", "masks", "metrics", "pairs", "palette", "split", "tiles"),
    ("arms", "class_files", "scan", "settings", "unet"),
    ("augment", "conversion", "duplicates", "fast", "samples", "summary"),
    ("download", "folder_set", "interop", "task", "worst"),
    ("findings", "runs"),
    ("cases",),
    ("check", "experiments", "inspection"),
    ("check_page", "prediction", "theorems"),
)
ORDERS = {
    room: {module: rank for rank, modules in enumerate(ranks) for module in modules}
    for room, ranks in (
        ("attention", ATTENTION_RANKS),
        ("estimators", ESTIMATORS_RANKS),
        ("gradflow", GRADFLOW_RANKS),
        ("graph", GRAPH_RANKS),
        ("projection", PROJECTION_RANKS),
        ("segmentation", SEGMENTATION_RANKS),
    )
}


@dataclass(frozen=True)
class Import:
    target: str  # dotted name, e.g. "layerlab.graph.ops"
    line: int
    top_level: bool


@cache
def imports_of(module: str, source: str, *, is_package: bool) -> tuple[Import, ...]:
    """Every import of layerlab's own modules in ``source``, with relative imports resolved."""
    return tuple(_imports(module, ast.parse(source), is_package))


def _imports(module: str, tree: ast.Module, is_package: bool) -> Iterator[Import]:
    inside_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    only_for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            # `from layerlab.graph import ops` names a module, `from layerlab.errors import UserError` does
            # not; for the rules both may be read as one dotted name.
            targets = [f"{base}.{alias.name}" for alias in node.names]
        for target in targets:
            if target.split(".")[0] == "layerlab":
                top_level = id(node) not in inside_functions and id(node) not in only_for_types
                yield Import(target, node.lineno, top_level)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def violations(files: dict[str, str], orders: dict[str, dict[str, int]]) -> list[str]:
    """What breaks the rules in ``files``: relative path under src -> source text."""
    found = []
    for path, source in sorted(files.items()):
        parts = Path(path).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        room = room_of(module)
        if room not in ROOMS:
            found.append(f"{path}: the room {room!r} is not entered in this test")
            continue
        for entry in imports_of(module, source, is_package=is_package):
            target_room = room_of(entry.target)
            if target_room not in ROOMS:
                # `from layerlab import __version__`: a name of the package itself.
                target_room = "__init__"
            if target_room not in {room, "__init__"} | ROOMS[room]:
                found.append(f"{path}:{entry.line}: {room} may not import {entry.target}")
            elif room == target_room and room in orders and entry.top_level and len(parts) == 3:
                order = orders[room]
                above, below = order.get(parts[2]), order.get([*entry.target.split("."), ""][2])
                if above is not None and below is not None and below >= above:
                    found.append(
                        f"{path}:{entry.line}: {parts[2]} may not import {entry.target} at its top level"
                    )
    return found


def top_level_cycles(files: dict[str, str]) -> list[list[str]]:
    """Rings of modules that import each other at their top level."""
    names = {}
    for path in files:
        parts = Path(path).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges: dict[str, set[str]] = {}
    for module, path in names.items():
        is_package = path.endswith("__init__.py")
        edges[module] = set()
        for entry in imports_of(module, files[path], is_package=is_package):
            if entry.top_level:
                target = entry.target if entry.target in names else entry.target.rpartition(".")[0]
                edges[module].add(target)
    rings: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            rings.append([*path[path.index(module) :], module])
        elif module not in done and module in edges:
            for target in sorted(edges[module] - {module}):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return rings


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    return {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


def test_the_rooms_import_in_the_stated_directions(package: dict[str, str]) -> None:
    assert len(package) > 5
    assert violations(package, ORDERS) == []


@pytest.mark.parametrize("name", ORDERS)
def test_every_module_of_an_ordered_room_has_a_rank(name: str) -> None:
    room = SOURCE / "layerlab" / name
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in room.glob("*/__init__.py")}
    assert modules == set(ORDERS[name])


def test_no_modules_import_each_other_in_a_ring(package: dict[str, str]) -> None:
    assert top_level_cycles(package) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("layerlab/errors.py", "from layerlab.claims import Claim"),
        ("layerlab/claims.py", "def f():\n    import layerlab.graph.structure"),
        ("layerlab/lab/training.py", "from layerlab import graph"),
        ("layerlab/lab/training.py", "from ..graph import ops"),
        ("layerlab/lab/report/draw.py", "from ...graph.ops import propagate"),
        ("layerlab/graph/models.py", "from layerlab.reproduce import run"),
        ("layerlab/reproduce.py", "from layerlab.cli.output import say"),
        ("layerlab/__init__.py", "from layerlab.graph import Graph"),
        ("layerlab/graph/layers.py", "from layerlab.graph.models import GCN"),
        ("layerlab/graph/layers.py", "from . import models"),
        ("layerlab/gradflow/jacobians.py", "from layerlab.graph import ops"),
        ("layerlab/gradflow/points.py", "from layerlab.gradflow.jacobians import jacobian"),
        ("layerlab/newroom/thing.py", "x = 1"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str) -> None:
    assert len(violations({path: source}, ORDERS)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("layerlab/cli/graph.py", "def train():\n    from layerlab.graph.experiments import train"),
        ("layerlab/cli/__init__.py", "from layerlab import __version__"),
        ("layerlab/graph/structure.py", "def from_csv():\n    from layerlab.graph.convert import from_csv"),
        ("layerlab/graph/ops.py", "if TYPE_CHECKING:\n    from layerlab.graph.layers import GCNConv"),
        ("layerlab/graph/models.py", "from layerlab.graph.layers import GCNConv"),
    ],
)
def test_a_right_import_passes(path: str, source: str) -> None:
    assert violations({path: source}, ORDERS) == []


def test_a_ring_is_found() -> None:
    ring = {
        "layerlab/lab/a.py": "from layerlab.lab.b import x",
        "layerlab/lab/b.py": "from layerlab.lab import a",
    }
    assert top_level_cycles(ring) == [["layerlab.lab.a", "layerlab.lab.b", "layerlab.lab.a"]]
