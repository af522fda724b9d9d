"""What a user names on the command line: ``FILE.py:FACTORY`` or an importable ``package.module:factory``.

Naming a subject runs its code: the file or module is imported and the factory called, with the rights of the
process. It is the only foreign code that is executed; `notice` says so in one line. Data files are never executed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from layerlab.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_EXAMPLE = "FILE.py:FACTORY or package.module:factory"


def notice(text: str) -> str:
    """One line that says what naming this subject executes.

    >>> notice("net.py:model")
    'runs the code of net.py and calls its model(); no other code than this is executed'
    """
    where, name = _parts(text)
    return f"runs the code of {where} and calls its {name}(); no other code than this is executed"


def load(text: str) -> Any:
    """The object that ``text`` names. The file or module is executed.

    The folder of a file (the working folder, for a module) can be imported from while it is loaded.

    Args:
        text: ``FILE.py:NAME`` or ``package.module:NAME``; NAME may be dotted.

    Raises:
        UserError: no such file, module or name, or its code raises (with file and line).

    >>> load("math:pi") > 3
    True
    >>> load("math:tau_over_two")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    layerlab.errors.UserError: math has no 'tau_over_two'; it offers acos, ...
    """
    where, name = _parts(text)
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            offered = [n for n in vars(module) if _is_factory(module, n)]
            mend = f"; it offers {', '.join(sorted(offered)[:8])}" if offered else ""
            raise UserError(f"{where} has no {name!r}{mend}")
        found = getattr(found, part)
    return found


def beside(text: str, name: str) -> Any:
    """What stands under ``name`` in the module of a subject that has been loaded; None where nothing does.

    Nothing is executed: an `example_inputs` beside a factory is found, and the caller may call it.

    Args:
        text: what `load` or `build_module` was given before.
        name: of a global of that module.

    >>> load("math:pi") == beside("math:pi", "pi"), beside("math:pi", "example_inputs")
    (True, None)
    """
    where, _ = _parts(text)
    module = sys.modules.get(_name_of_file(Path(where)) if where.endswith(".py") else where)
    return getattr(module, name, None)


def build_module(text: str) -> nn.Module:
    """The `torch.nn.Module` that ``text`` names: what the factory (or class) returns, or the module itself.

    Args:
        text: see `load`. The factory is called without arguments.

    Raises:
        UserError: as `load`; or the factory needs arguments, raises, or returns something else.

    >>> build_module("torch.nn:Identity")
    Identity()
    >>> build_module("torch.nn:Linear")
    Traceback (most recent call last):
    layerlab.errors.UserError: torch.nn:Linear needs the arguments in_features, out_features; name a factory \
that takes none, such as `def model(): return Linear(...)`
    """
    from torch import nn

    found = load(text)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UserError(
            f"{text} is of type {type(found).__name__}; expected a function that returns a module"
        )
    needed = _required(found)
    if needed:
        name = text.rpartition(":")[2]
        raise UserError(
            f"{text} needs the arguments {', '.join(needed)}; name a factory that takes none, "
            f"such as `def model(): return {name}(...)`"
        )
    with user_code(f"{text} raised"):
        built = found()
    if not isinstance(built, nn.Module):
        raise UserError(f"{text} returned {type(built).__name__}; expected a torch.nn.Module")
    return built


@contextlib.contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turns whatever a user's own code raises into a `UserError` with its file and line.

    The place is the innermost line of the traceback outside of installed packages, or else the innermost. A
    `UserError` and ``KeyboardInterrupt`` pass as they are; ``sys.exit`` counts as raised.

    Args:
        doing: the beginning of the message, such as ``"the model raised"``.

    >>> with user_code("f() raised"):  # doctest: +ELLIPSIS
    ...     {}["key"]
    Traceback (most recent call last):
    layerlab.errors.UserError: ...f() raised KeyError: 'key'
    """
    with _Translated(doing):
        yield


class _Translated:
    """A context manager sees every exception without catching any: what it does not translate goes on."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, (UserError, KeyboardInterrupt, GeneratorExit)):
            file, line = _place(error, trace)
            text = " ".join(str(error).split())
            raise UserError(
                f"{self.doing} {type(error).__name__}{': ' if text else ''}{text[:300]}", file=file, line=line
            ) from error


def _place(error: BaseException, trace: TracebackType | None) -> tuple[str | None, int | None]:
    if isinstance(error, SyntaxError):
        return error.filename, error.lineno
    own = str(Path(__file__).parents[1])
    frames = [f for f in traceback.extract_tb(trace) if not f.filename.startswith((own, "<"))]
    theirs = [f for f in frames if not _installed(f.filename)]
    if not theirs:
        return None, None
    return theirs[-1].filename, theirs[-1].lineno


def _installed(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or filename.startswith(str(Path(inspect.__file__).parent))


def _parts(text: str) -> tuple[str, str]:
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name or where.endswith((":", "/", "\\")):
        raise UserError(f"expected {_EXAMPLE}, got {text!r}")
    return where, name


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError("no such file", file=path)
    name = _name_of_file(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("cannot be loaded as Python code", file=path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling inside the file look their module up.
    sys.modules[name] = module
    try:
        with _importing_from(path.resolve().parent), user_code(f"loading {path.name} raised"):
            spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    return module


def _name_of_file(path: Path) -> str:
    # Not under its own name: `random.py` of the user must not become everybody's `random`.
    return f"_layerlab_subject_{path.stem}"


def _module(name: str) -> ModuleType:
    with _importing_from(Path.cwd()):
        try:
            with user_code(f"importing {name} raised"):
                return importlib.import_module(name)
        except UserError as error:
            cause = error.__cause__
            missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
            if missing is not None and f"{name}.".startswith(f"{missing}."):
                raise UserError(f"there is no module {name!r}; expected {_EXAMPLE}") from cause
            raise


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    if added := str(folder) not in sys.path:
        # At the end: what is installed goes before.
        sys.path.append(str(folder))
    try:
        yield
    finally:
        if added and str(folder) in sys.path:
            sys.path.remove(str(folder))


def _is_factory(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    return (
        not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    )


def _required(factory: Callable[..., Any]) -> list[str]:
    """The arguments without a default; none where a builtin does not tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
