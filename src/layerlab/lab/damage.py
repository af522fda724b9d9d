"""Records that anybody may have changed: what does not fit is told in a line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from layerlab.errors import UserError


@contextlib.contextmanager
def drawing_from(place: Path, mend: str) -> Iterator[None]:
    """Around what is computed from records that anybody may have changed: what does not fit is told as damage.

    Args:
        place: the file or folder.
        mend: what to do, for the message.

    Raises:
        UserError: in place of what Python raises on a missing name, another type or another length.

    >>> with drawing_from(Path("run"), "run again"):
    ...     {"loss": 0.5}["accuracy"]
    Traceback (most recent call last):
    layerlab.errors.UserError: run: a record is damaged ('accuracy'); run again
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"a record is damaged ({error}); {mend}", file=place) from error
