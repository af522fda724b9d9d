"""What the values or colours of label images mean: which class, or none.

A pixel's *code* is its value (a grey level or an index into a palette), or for a colour that is not grey
``2**24 + 65536 red + 256 green + blue``. So a mask saved as grey and the same mask saved as RGB mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlab.errors import UserError
from layerlab.segmentation.dataset import IGNORE

COLOUR = 2**24
LARGEST_VALUE = 65535
_MOST_CLASSES = 255
# Label images hold few values; more than this many without being told what they mean are a photograph or a drawing
# with soft edges. (ADE20K has 150 classes.)
_MOST_INFERRED = 200
# 255 beside class indices below this is the "void" of PASCAL VOC, Cityscapes and their heirs.
_VOID_ABOVE = 128
_ITEM = re.compile(r"(?P<colour>#[0-9a-fA-F]{6})|(?P<low>\d{1,5})(-(?P<high>\d{1,5}))?|(?P<rest>\*)")


@dataclass(frozen=True)
class Classes:
    """Which codes are which class.

    Attributes:
        names: of the classes, in their order; class k is ``names[k]``.
        codes: of every class.
        ignored: codes of pixels that count nowhere.
        rest: what every other code is: a class's index, `IGNORE`, or None where it is a mistake.
        inferred: how they were inferred, in a sentence; empty where the user gave them.
    """

    names: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()
    rest: int | None = None
    inferred: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= _MOST_CLASSES:
            raise UserError(f"expected 1 to {_MOST_CLASSES} classes, got {len(self.names)}")
        if twice := _repeated(self.names):
            raise UserError(f"expected every class once, got {twice!r} twice")
        every = [code for codes in (*self.codes, self.ignored) for code in codes]
        if (code := _repeated(every)) is not None:
            raise UserError(
                f"expected every mask value in one place, got {shown(code)} twice; a value is one class or ignored"
            )

    def apply(self, codes: NDArray[Any]) -> NDArray[np.uint8]:
        """Class of every pixel, `IGNORE` where there is none.

        Raises:
            UserError: codes that are no class.

        >>> Classes.parse(["flower=1", "rest=2-4"], "0,5").apply(np.array([[0, 1, 2, 4]]))
        array([[255,   0,   1,   1]], dtype=uint8)
        """
        if codes.size and int(codes.max()) > LARGEST_VALUE:
            distinct, places = np.unique(codes, return_inverse=True)
            self._refuse_unknown(distinct.tolist())
            table = np.array([self._of(code) for code in distinct.tolist()], np.uint8)
            return table[places].reshape(codes.shape)
        known, table = self._table
        if not known[codes].all():
            self._refuse_unknown(np.unique(codes[~known[codes]]).tolist())
        return table[codes]

    def unknown(self, codes: Iterable[int]) -> list[int]:
        """Those of ``codes`` that are no class and not ignored."""
        return [] if self.rest is not None else [code for code in codes if code not in self._places]

    def name_of(self, code: int) -> str | None:
        """The class of a code, "ignored", or None where it is neither."""
        place = self._places.get(code, self.rest)
        return None if place is None else "ignored" if place == IGNORE else self.names[place]

    def counts(self, counted: Mapping[int, int]) -> NDArray[np.int64]:
        """Pixels of every class, and last those of none, from pixels of every code; unknown codes are left out."""
        found = np.zeros(len(self.names) + 1, np.int64)
        for code, pixels in counted.items():
            place = self._places.get(code, self.rest)
            if place is not None:
                found[-1 if place == IGNORE else place] += pixels
        return found

    def to_dict(self) -> dict[str, Any]:
        """For a record: names with their values as a user writes them."""
        values: dict[str, list[str]] = {
            name: [shown(code) for code in codes] for name, codes in zip(self.names, self.codes, strict=True)
        }
        ignored = [shown(code) for code in self.ignored]
        if self.rest is not None:
            (ignored if self.rest == IGNORE else values[self.names[self.rest]]).append("*")
        return {"classes": values, "ignore": ignored, "inferred": self.inferred}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Classes:
        """What `to_dict` wrote.

        >>> classes = Classes.parse(["flower=1", "rest=*"], "0")
        >>> Classes.from_dict(classes.to_dict()) == classes
        True
        """
        return cls.given(record["classes"], record["ignore"], inferred=record.get("inferred", ""))

    @classmethod
    def parse(cls, classes: Sequence[str], ignore: str = "") -> Classes:
        """From ``NAME=VALUES`` a class: values, ranges and colours (``1,3-5``, ``#ff0000``), ``*`` for all others.

        Raises:
            UserError: text that is not of that form, or a value in two places.

        >>> Classes.parse(["flower=1", "rest=*"], "0,5").names
        ('flower', 'rest')
        """
        given: dict[str, list[str]] = {}
        for text in classes:
            name, equals, values = text.rpartition("=")
            if not equals or not name.strip():
                raise UserError(f"expected NAME=VALUES for a class (flower=1 or rest=2-4), got {text!r}")
            if name.strip() in given:
                raise UserError(
                    f"expected every class once, got {name.strip()!r} twice; write its values together: 1,3"
                )
            given[name.strip()] = values.split(",")
        return cls.given(given, ignore.split(",") if ignore.strip() else ())

    @classmethod
    def given(
        cls, classes: Mapping[str, Iterable[Any]], ignore: Iterable[Any] = (), *, inferred: str = ""
    ) -> Classes:
        """From lists of values as `parse` takes them one by one.

        Raises:
            UserError: a value that is none, or that stands in two places.
        """
        rest: list[int] = []

        def read(values: Iterable[Any], place: int) -> tuple[int, ...]:
            found: list[int] = []
            for value in values:
                item = str(value).strip()
                if item == "*":
                    rest.append(place)
                else:
                    found.extend(codes_of(item))
            return tuple(dict.fromkeys(found))

        codes = tuple(read(values, place) for place, values in enumerate(classes.values()))
        ignored = read(ignore, IGNORE)
        if len(rest) > 1:
            raise UserError("expected '*' (all other values) in one place, got it twice")
        return cls(tuple(classes), codes, ignored, rest[0] if rest else None, inferred)

    @cached_property
    def _places(self) -> dict[int, int]:
        places = {code: place for place, codes in enumerate(self.codes) for code in codes}
        return places | dict.fromkeys(self.ignored, IGNORE)

    def _of(self, code: int) -> int:
        place = self._places.get(code, self.rest)
        return IGNORE if place is None else place

    @cached_property
    def _table(self) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        known = np.full(LARGEST_VALUE + 1, self.rest is not None)
        table = np.full(LARGEST_VALUE + 1, IGNORE if self.rest is None else self.rest, np.uint8)
        for code, place in self._places.items():
            if code <= LARGEST_VALUE:
                known[code], table[code] = True, place
        return known, table

    def _refuse_unknown(self, codes: Iterable[int]) -> None:
        if unknown := self.unknown(codes):
            raise UserError(
                f"holds {listed(unknown)}, which is no class; name it with --class NAME=VALUES or --ignore VALUES"
            )


def codes(pixels: NDArray[Any]) -> NDArray[Any]:
    """The code of every pixel ``(height, width)`` of a decoded label image ``(height, width, channels)``.

    Raises:
        UserError: values below 0 or above 65,535.

    >>> codes(np.array([[[255, 0, 0], [7, 7, 7]]], np.uint8)).tolist()
    [[33488896, 7]]
    """
    if pixels.shape[2] == 1:
        values = pixels[..., 0]
        if values.dtype.itemsize > 2 and values.size:
            low, high = int(values.min()), int(values.max())
            if low < 0 or high > LARGEST_VALUE:
                raise UserError(f"expected mask values from 0 to {LARGEST_VALUE:,}, got {low:,} to {high:,}")
        return values
    if pixels.dtype != np.uint8:
        raise UserError(
            "expected colours of 8 bits a channel in a mask, got 16; save it with 8, or as class indices"
        )
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    grey = (red == green) & (green == blue)
    return np.where(grey, red, COLOUR + 65536 * red + 256 * green + blue)


def counted(codes: NDArray[Any]) -> dict[int, int]:
    """Pixels of every code that occurs."""
    if codes.size and int(codes.max()) <= LARGEST_VALUE:
        found = np.bincount(codes.ravel())
        return {int(code): int(found[code]) for code in np.flatnonzero(found)}
    distinct, pixels = np.unique(codes, return_counts=True)
    return dict(zip(distinct.tolist(), pixels.tolist(), strict=True))


def codes_of(item: str) -> range | tuple[int, ...]:
    """The codes that a value, a range or a colour stands for.

    >>> list(codes_of("3-5")), list(codes_of("#0000ff"))
    ([3, 4, 5], [16777471])
    """
    match = _ITEM.fullmatch(item)
    if match is None or match["rest"]:
        raise UserError(f"expected mask values such as 1, 3-5 or #ff0000, got {item!r}")
    if match["colour"]:
        return (_code_of_colour(match["colour"]),)
    low = int(match["low"])
    high = low if match["high"] is None else int(match["high"])
    if high < low or high > LARGEST_VALUE:
        raise UserError(f"expected mask values from 0 to {LARGEST_VALUE:,}, the smaller first; got {item!r}")
    return range(low, high + 1)


def shown(code: int) -> str:
    """A code as a person writes it: ``7`` or ``#ff0000``."""
    return str(code) if code < COLOUR else f"#{code - COLOUR:06x}"


def listed(codes: Sequence[int], most: int = 6) -> str:
    """Some of the codes, and how many there are beyond them."""
    text = ", ".join(shown(code) for code in codes[:most])
    return f"{text} and {len(codes) - most:,} other values" if len(codes) > most else text


def infer(found: Mapping[int, int], *, ignore: Iterable[int] = ()) -> Classes:
    """Classes from the codes that occur: their pixels, and which of them the user ignores.

    0 and 255 alone are background and foreground. Else every value, and every colour, is a class, named by itself;
    255 beside values below 128 only is ignored, as PASCAL VOC and its heirs mean it.

    Raises:
        UserError: no codes, or so many that these are no classes.

    >>> infer({0: 900, 255: 100}).names, infer({0: 900, 1: 50, 255: 50}).ignored
    (('background', 'foreground'), (255,))
    """
    ignored = tuple(ignore)
    present = sorted(set(found) - set(ignored))
    if not present:
        raise UserError("expected masks with at least one class, got only ignored pixels")
    pixels = sum(found[code] for code in present)
    extremes = sum(found.get(code, 0) for code in (0, 255))
    if len(present) > _MOST_INFERRED or (len(present) > 16 and extremes > 0.8 * pixels):
        raise UserError(
            f"expected masks of a few values, got {len(present):,} different ones ({listed(present)}), as lossy or "
            "soft masks and photographs have; save masks without smoothing, or cut them: --class background=0-127 "
            "--class foreground=128-255"
        )
    if present == [0, 255]:
        return Classes(
            ("background", "foreground"), ((0,), (255,)), ignored, None, "0 and 255: a mask of one object"
        )
    if present[-1] == 255 and len(present) > 1 and present[-2] < _VOID_ABOVE:
        present, ignored = present[:-1], (*ignored, 255)
        sentence = "every value is a class; 255, beside values below 128, is ignored"
    elif present[-1] >= COLOUR:
        sentence = "every colour is a class"
    else:
        sentence = "every value is a class"
    colours = present[-1] >= COLOUR
    names = tuple(
        f"#{code:02x}{code:02x}{code:02x}" if colours and code < 256 else shown(code) for code in present
    )
    return Classes(names, tuple((code,) for code in present), ignored, None, sentence)


def _code_of_colour(text: str) -> int:
    value = int(text[1:], 16)
    red, green, blue = value >> 16, value >> 8 & 255, value & 255
    return red if red == green == blue else COLOUR + value


def _repeated(items: Sequence[Any]) -> Any:
    seen = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
