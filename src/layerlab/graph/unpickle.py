"""Reading Planetoid's pickles without trusting them.

A pickle is a program. `loads` runs it with six names at most, and behind those names stand this file's own
stand-ins, which take bytes and numbers and nothing else: neither a function of numpy's or scipy's nor
anything that a hostile file could reach through one of them is ever called while the pickle runs. The plain
``list`` and ``defaultdict`` are the only real classes. Only afterwards are the stand-ins turned into numpy
arrays and checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
from collections import defaultdict
from typing import Any

import numpy as np
from scipy import sparse

from layerlab.errors import UserError

# Everything that the pickle machine or a stand-in raises on a malformed program. UserError is a ValueError
# and is let through before these are looked at.
_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    MemoryError,
    OverflowError,
    RecursionError,
    struct.error,
)


class _DType:
    """Stand-in for ``numpy.dtype``: plain numbers only."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_flags: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"f[48]|[iu][1248]|b1", code):
            raise pickle.UnpicklingError(f"it holds an array of type {code!r}; only numbers are expected")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, order, *compound = state
        if order not in ("<", ">", "|", "=") or any(entry is not None for entry in compound[:3]):
            raise pickle.UnpicklingError("it holds an array of a compound type; only numbers are expected")
        self.order = order


class _Array:
    """Stand-in for ``numpy.ndarray`` and for the function that makes an empty one."""

    __slots__ = ("state",)

    def __init__(self, *_ignored: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def value(self) -> np.ndarray[Any, Any]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise pickle.UnpicklingError("it holds an array without content")
        _version, shape, kind, fortran, content = self.state
        if not isinstance(kind, _DType) or not isinstance(content, (str, bytes)):
            raise pickle.UnpicklingError("it holds an array whose content is not bytes")
        # Python 2's strings are read as latin-1, which is one character a byte and so loses nothing.
        raw = content.encode("latin1") if isinstance(content, str) else content
        flat = np.frombuffer(raw, dtype=np.dtype(kind.order + kind.code))
        return flat.reshape(shape, order="F" if fortran else "C")


class _Csr:
    """Stand-in for ``scipy.sparse.csr_matrix``."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def value(self) -> sparse.csr_array:
        state = getattr(self, "state", None)
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("it holds a sparse matrix without content")
        parts = [state.get(key) for key in ("data", "indices", "indptr")]
        if not all(isinstance(part, _Array) for part in parts):
            raise pickle.UnpicklingError("it holds a sparse matrix whose parts are not arrays")
        matrix = sparse.csr_array(tuple(part.value() for part in parts if part), shape=state.get("_shape"))
        matrix.check_format(full_check=True)
        return matrix


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("collections", "defaultdict"): defaultdict,
    ("builtins", "list"): list,
    ("__builtin__", "list"): list,
}


# The instructions that arrays, lists, tuples, dictionaries and numbers need in protocols 2 to 4. Out are the
# text instructions of protocol 0, persistent and extension names, out-of-band buffers and byte arrays.
_INSTRUCTIONS = frozenset(
    re.findall(
        r"\w+",
        """PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
        BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
        EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS
        BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL NEWOBJ REDUCE BUILD""",
    )
)


def _check_instructions(data: bytes, file: str) -> None:
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if instruction.name not in _INSTRUCTIONS:
            raise UserError(
                f"refused: this pickle holds the instruction {instruction.name}, which no data file needs. "
                "Nothing was run; do not use this file, fetch it again from its publisher",
                file=file,
            )
        if instruction.name == "LONG_BINPUT" and argument is not None and argument > count:
            # The pickle machine makes room for every number below: one wrong byte could ask for 64 gigabytes.
            raise pickle.UnpicklingError("it numbers its parts wrongly")


class _Restricted(pickle.Unpickler):
    def __init__(self, data: bytes, file: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._file = file

    def find_class(self, module: str, name: str) -> type:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise UserError(
                f"refused: this pickle asks for '{module}.{name}', which no data file needs. "
                "Nothing was run; do not use this file, fetch it again from its publisher",
                file=self._file,
            )
        return stand_in


def loads(data: bytes, *, file: str) -> Any:
    """Read one of Planetoid's pickles.

    Args:
        data: the pickle.
        file: its name, for error messages.

    Returns:
        A numpy array of numbers, a ``scipy.sparse.csr_array`` of numbers, or plain lists, numbers and
        dictionaries.

    Raises:
        UserError: it asks for a name or an instruction beyond the few that such files use, or it is
            malformed or cut short.

    >>> loads(pickle.dumps([1, 2]), file="numbers")
    [1, 2]
    >>> import os
    >>> loads(pickle.dumps(os.system), file="numbers")
    Traceback (most recent call last):
    ...
    layerlab.errors.UserError: numbers: refused: this pickle asks for 'posix.system', ...
    """
    try:
        _check_instructions(data, file)
        loaded = _Restricted(data, file).load()
        return loaded.value() if isinstance(loaded, (_Array, _Csr)) else loaded
    except UserError:
        raise
    except _MALFORMED as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"expected one of Planetoid's pickles, but it is damaged or cut short ({reason}); fetch it again",
            file=file,
        ) from error
