"""What fits into memory, and what does not and is refused before anything is made."""

from __future__ import annotations

from layerlab.errors import UserError
from layerlab.lab.memory import available, size

# Kept free for everything else.
_SHARE = 0.8


def refuse_beyond(needed: int, what: str, mend: str) -> None:
    """Refuse what takes more than four fifths of the memory there is.

    Args:
        needed: bytes.
        what: the thing, for the message: "10 vectors of 3 dimensions in float32".
        mend: what to do in place of it.

    Raises:
        UserError: it does not fit; the message has both sizes.
    """
    free = available()
    if free is not None and needed > _SHARE * free:
        raise UserError(f"{what} take {size(needed)}, and {size(free)} of memory are free; {mend}")
