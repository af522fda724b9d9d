"""What `mutate.py` changes: small mistakes, one at a time, in the syntax tree of a module.

Left alone: texts, annotations, the subjects of a claim (another subject is as good), and functions whose docstring
begins with "Broken" (a broken block, broken otherwise, is as good a falsifier; mended, it is caught all the same).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
_NAMES |= {"argmin": "argmax", "argmax": "argmin", "zeros": "ones", "ones": "zeros"}
_TRANSPARENT = {"abs", "sorted", "round"}
_RELATIONS = {"<=": ">=", ">=": "<=", "==": "<="}
# Texts that people read, and what only makes an example.
_TEXTS = {"title", "source", "statement", "hypotheses", "subjects", "reason"}


@dataclass(frozen=True)
class Mutant:
    """One small mistake: the node at ``place`` in the order of `ast.walk` becomes ``replacement``."""

    place: int
    replacement: ast.AST
    line: int
    last_line: int
    was: str
    now: str

    @property
    def name(self) -> str:
        """How a report names it."""
        return f"{self.line}: {self.was}  →  {self.now}"


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    places = {id(node): place for place, node in enumerate(ast.walk(tree))}
    found = [
        Mutant(
            places[id(node)],
            changed,
            node.lineno,  # type: ignore[attr-defined]
            node.end_lineno,  # type: ignore[attr-defined]
            _text(node),
            _text(changed),
        )
        for node in _open_to_change(tree)
        for changed in _changes(node)
    ]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.place))


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The tree of the module with the mistake in it."""
    tree = ast.parse(source)
    target = next(node for place, node in enumerate(ast.walk(tree)) if place == mutant.place)
    new = ast.copy_location(copy.deepcopy(mutant.replacement), target)

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is target else self.generic_visit(node)

    return ast.fix_missing_locations(Replace().visit(tree))


def _text(node: ast.AST) -> str:
    lines = ast.unparse(node).splitlines()
    text = lines[0] + (" …" if len(lines) > 1 else "")
    return text if len(text) <= 70 else f"{text[:69]}…"


def _open_to_change(node: ast.AST) -> Iterator[ast.AST]:
    """Depth first, past what is left alone."""
    if isinstance(node, ast.FunctionDef) and (ast.get_docstring(node) or "").startswith("Broken"):
        return
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if hasattr(node, "lineno"):
        yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in _TEXTS:
                continue
            if isinstance(child, ast.Lambda) and isinstance(node, ast.Call) and _called(node) == "Falsifier":
                continue
            if isinstance(child, ast.AST):
                yield from _open_to_change(child)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator]):
            for other in _COMPARISONS[type(operator)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    changed = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                    yield ast.Compare(node.left, changed, node.comparators)
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS and not _is_text(node):
            yield ast.BinOp(node.left, _OPERATORS[type(operator)](), node.right)
        case ast.AugAssign(op=operator) if type(operator) in _OPERATORS:
            yield ast.AugAssign(node.target, _OPERATORS[type(operator)](), node.value)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant():
            yield from _other_constants(node.value)
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield ast.If(_opposite(test), node.body, node.orelse)
        case ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield ast.IfExp(_opposite(test), node.body, node.orelse)
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield ast.Call(ast.Name(_NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Call(func=ast.Name(id=name), args=[only, *_]) if name in _TRANSPARENT:
            yield only
        case ast.Call(func=ast.Attribute(attr=name) as function) if name in _NAMES:
            changed_name = ast.Attribute(function.value, _NAMES[name], ast.Load())
            yield ast.Call(changed_name, node.args, node.keywords)
        case ast.Call(func=ast.Attribute(attr="abs") as function, args=[]):
            yield function.value


def _other_constants(value: object) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(2 * value if value else 1.0)
    elif isinstance(value, str) and value in _RELATIONS:
        yield ast.Constant(_RELATIONS[value])


def _opposite(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )
