"""SVG text: what matplotlib draws, made fit to stand inside a page; and the check of what enters a page.

Figures are drawn in sentinel colours (`COLOURS`), which become CSS variables here, so that one drawing
follows the page in light, in dark and on paper.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from layerlab.errors import UserError, printable_lines

SERIES = 6
"""How many series colours there are; a figure with more series begins again, with other markers."""

COLOURS: dict[str, str] = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--rule)",
    "#040404": "var(--paper)",
    **{f"#0a0a0{position + 1}": f"var(--series-{position + 1})" for position in range(SERIES)},
}
"""Sentinel colour of the drawing -> colour of the page."""

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
# Scripts, foreign markup, and animations that could set an address: nothing a drawing needs.
_DRAWING = {
    "svg",
    "g",
    "defs",
    "path",
    "use",
    "text",
    "tspan",
    "rect",
    "circle",
    "line",
    "clipPath",
    "title",
    "desc",
}
_REFERENCE = re.compile(r"url\(\s*['\"]?([^)'\"]*)['\"]?\s*\)")


def from_matplotlib(source: str, *, title: str, description: str, hover: Mapping[str, str]) -> str:
    """The inner drawing of a matplotlib SVG as a self-contained, themed ``<svg>`` element.

    Args:
        source: the SVG file that matplotlib wrote, drawn in the sentinel colours.
        title: the short name that is read out first.
        description: the text alternative.
        hover: group id in the drawing (an artist's gid) -> the text shown when the pointer rests on it.

    Returns:
        The element, as wide as its container, with a viewBox, without style sheet and metadata.
    """
    root = ET.fromstring(source)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) not in _DRAWING:
                parent.remove(child)
    for element in root.iter():
        text = hover.get(element.get("id", ""))
        if text is not None:
            tip = ET.Element(f"{_SVG}title")
            tip.text = text
            element.insert(0, tip)
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))
        if "style" in element.attrib:
            element.set("style", _themed(element.attrib["style"]))
        if "d" in element.attrib:
            element.set("d", " ".join(element.attrib["d"].split()))
    _drop_unused_ids(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    # matplotlib's own style sheet said this; a style element would reach out over the whole page.
    root.attrib.update({"role": "img", "stroke-linejoin": "round", "aria-labelledby": "title desc"})
    for name, content in (("desc", description), ("title", title)):
        entry = ET.Element(f"{_SVG}{name}", {"id": name})
        entry.text = content
        root.insert(0, entry)
    return _write(root)


def for_page(source: str, prefix: str) -> str:
    """``source`` with every id and every reference to one prefixed, after a check that it only draws.

    Args:
        source: an ``<svg>`` element.
        prefix: what makes its ids unique on the page.

    Returns:
        The element as text.

    Raises:
        UserError: it is not well-formed, or holds scripts, handlers, foreign elements or outside references.

    >>> for_page('<svg xmlns="http://www.w3.org/2000/svg"><path id="a"/><use href="#a"/></svg>', "f1-")
    '<svg xmlns="http://www.w3.org/2000/svg"><path id="f1-a" /><use href="#f1-a" /></svg>'
    """
    if "<!" in source:
        # A document type could define entities that grow without end.
        raise UserError(
            "expected an SVG element without document type and comments; draw it with report.figures"
        )
    try:
        root = ET.fromstring(source)
    except ET.ParseError as error:
        raise UserError(
            f"expected an SVG element, but it is not well-formed ({error}); draw it with report.figures"
        ) from error
    for element in root.iter():
        name = element.tag.removeprefix(_SVG)
        if name not in _DRAWING or not element.tag.startswith(_SVG):
            raise UserError(f"an SVG figure must only draw, found the element {name!r}; remove it")
        for attribute, value in element.attrib.items():
            if attribute.lower().startswith("on") or attribute.startswith("{"):
                raise UserError(f"an SVG figure must only draw, found the attribute {attribute!r}; remove it")
            references = _REFERENCE.findall(value) + ([value] if attribute == "href" else [])
            if any(not reference.startswith("#") for reference in references):
                raise UserError(f"an SVG figure must not refer outside itself, found {value!r}; remove it")
            if attribute == "id":
                value = prefix + value
            elif attribute == "href":
                value = f"#{prefix}{value[1:]}"
            elif attribute == "aria-labelledby":
                value = " ".join(prefix + part for part in value.split())
            element.set(attribute, _REFERENCE.sub(lambda found: f"url(#{prefix}{found[1][1:]})", value))
    return _write(root)


def _themed(style: str) -> str:
    style = re.sub(r"#[0-9a-f]{6}", lambda found: COLOURS.get(found[0], found[0]), style)
    style = style.replace("font-weight: 700", "font-weight: 600")
    return re.sub(r"font-family: [^;]*", "font-family: var(--sans)", style)


def _drop_unused_ids(root: ET.Element) -> None:
    """Only what is referred to keeps its id: matplotlib names every group."""
    used: set[str] = set()
    for element in root.iter():
        used.add(element.get("href", "").removeprefix("#"))
        for value in element.attrib.values():
            used.update(reference.removeprefix("#") for reference in _REFERENCE.findall(value))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)


def _write(root: ET.Element) -> str:
    for element in root.iter():
        element.text = element.text and printable_lines(element.text)
        # The white space between elements means nothing in a drawing, except inside text.
        if element.tag != f"{_SVG}text" and not (element.text or "").strip():
            element.text = None
        if not (element.tail or "").strip():
            element.tail = None
    ET.register_namespace("", _SVG[1:-1])
    return ET.tostring(root, encoding="unicode")
