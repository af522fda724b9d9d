"""The report page: well-formed, self-contained, escaped, deterministic, and sound in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from sample_figures import CURVES, HOSTILE, PAIRS, YLABEL, strip

from layerlab.errors import UserError
from layerlab.lab.report import charts, figures
from layerlab.lab.report.markdown import markdown
from layerlab.lab.report.page import (
    VERDICTS,
    Callout,
    Cell,
    Code,
    Column,
    Definitions,
    Figure,
    KeyFigure,
    KeyFigures,
    Page,
    Section,
    Table,
    Text,
    marks,
    render,
    write,
)

WIDE_ROW = ["GCN", *[Cell(f"{value:,.1f} ± 0.3", value) for value in (81.5, 1e3, 2e4, 3e5, 4e6, 5e7)]]


@cache
def drawings() -> tuple[Figure, ...]:
    return strip(), figures.paired_differences(PAIRS), charts.line_chart(CURVES, YLABEL)


def sample_page(word: str = "plain") -> Page:
    columns = [Column(f"Model {word}"), *[Column(f"Number {k} {word}", "right") for k in range(6)]]
    rows = [
        WIDE_ROW,
        ["GAT", *[Cell("—")] * 5, Cell("9.0", 9.0)],
        [Cell(word), *[Cell("10.0", 10.0)] * 5, Cell(verdict="refuted")],
    ]
    blocks = [
        Callout("refuted", word),
        *(replace(figure, caption=word) for figure in drawings()),
        # The same figure again: its ids must not collide.
        drawings()[0],
        Table(f"A wide table, {word}", columns, rows, [word]),
        Code(f"layerlab graph race cora --out {'a' * 200} {word}", label=word),
        Definitions([(word, f"`{word}`")]),
        Text(f"Averyveryverylongword{'x' * 200} and [the table](#table-1)"),
    ]
    lead = [KeyFigures([KeyFigure("81.5%", f"GCN {word}", word)] * 4), Text(word)]
    return Page(
        f"A report, {word}", word, lead, [Section(word, "first", blocks), Section("b", "b", [])], word
    )


class Reader(HTMLParser):
    """Checks the nesting of elements while reading, and collects what the tests ask about."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page_html() -> str:
    return render(sample_page())


@pytest.fixture(scope="module")
def reader(page_html: str) -> Reader:
    return Reader(page_html)


def test_the_page_is_balanced_and_asks_for_nothing_outside(page_html: str, reader: Reader) -> None:
    assert page_html.startswith("<!DOCTYPE html>")
    for _, attributes in reader.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
    assert all(reference.startswith("#") for reference in re.findall(r"url\(([^)]*)\)", page_html))
    assert "@import" not in page_html
    [policy] = [entry["content"] for entry in reader.all("meta") if "Policy" in entry.get("http-equiv", "")]
    assert policy.startswith("default-src 'none';")
    assert len(page_html.encode()) < 500_000


def test_ids_are_unique_and_every_reference_has_its_target(reader: Reader) -> None:
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    named = {a["href"][1:] for tag, a in reader.elements if a.get("href", "").startswith("#")}
    named |= {part for _, a in reader.elements for part in a.get("aria-labelledby", "").split()}
    named |= set(re.findall(r"url\(#([^)]*)\)", str(reader.elements)))
    assert named <= set(ids)


def test_landmarks_names_and_alternatives(reader: Reader) -> None:
    assert reader.all("html") == [{"lang": "en"}]
    assert any(entry.get("name") == "viewport" for entry in reader.all("meta"))
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert reader.all(landmark), landmark
    assert reader.all("a")[0] == {"class": "skip", "href": "#content"}
    assert all(entry["scope"] in {"col", "row"} for entry in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table")) == 1
    drawings = reader.all("svg")
    assert len(drawings) == 8
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert len(drawing["aria-labelledby"].split()) == 2
        assert "viewbox" in drawing
        assert "width" not in drawing


def test_numeric_cells_carry_their_sort_value(reader: Reader) -> None:
    keys = [entry.get("data-sort") for entry in reader.all("td")]
    assert keys[:6] == ["81.5", "1000.0", "20000.0", "300000.0", "4000000.0", "50000000.0"]
    assert keys[6] is None
    assert Cell("∞", float("inf")).key is None


def test_nothing_hostile_gets_in() -> None:
    text = render(sample_page(HOSTILE))
    reader = Reader(text)
    assert len(reader.all("script")) == 1
    assert reader.all("img") == []
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert reader.text.count("<script>alert(1)</script>") > 10
    assert "{{ 7*7 }}" in text


def test_no_text_holds_what_a_terminal_obeys_or_an_eye_misses() -> None:
    page = sample_page("a\x1b[31m\u202e\u200b\x85b")
    for document in (render(page), markdown(page)):
        assert not {"\x1b", "\u202e", "\u200b", "\x85"} & set(document)
        assert document.count(r"\x1b[31m\u202e\u200b\x85b") > 10
    figure = figures.paired_differences([{**PAIRS[0], "label": "a\u202e"}])
    assert "\u202e" not in render(Page("a", "", [figure], []))


def test_marks_are_few_and_escaped() -> None:
    assert marks("**a<b** *c* `**d**` 2*3*4 [e](#f) x_1") == (
        '<strong>a&lt;b</strong> <em>c</em> <code>**d**</code> 2*3*4 <a href="#f">e</a> x_1'
    )
    assert marks("[x](javascript:alert) [y](http://z) `<") == "[x](javascript:alert) [y](http://z) `&lt;"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page("t", "", [Table("c", [Column("a")], [["1", "2"]])], []), "1 columns, but a row of 2"),
        (Page("t", "", [], [Section("a", "Not a slug", [])]), "expected an anchor"),
        (Page("t", "", [], [Section("a", "x", []), Section("b", "x", [])]), "'x' is taken"),
        (Page("t", "", [], [Section("a", "x", []), Section("b", "x-title", [])]), "'x-title' is taken"),
        (Page("t", "", [], [Section("a", "content", [])]), "'content' is taken"),
        (Page("t", "", [], [Section("a", "figure-1-title", [])]), "is taken"),
        (Page("t", "", [Text("[a](#nowhere)")], []), "leads nowhere"),
        (Page("t", "", [Callout("maybe", "x")], []), "expected one of the verdicts"),  # type: ignore[arg-type]
        (Page("t", "", [Table("c", [Column("a")], [[Cell(verdict="maybe")]])], []), "verdicts"),  # type: ignore[arg-type]
    ],
)
def test_a_page_that_would_be_broken_is_refused(page: Page, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render(page)


SVG = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'


@pytest.mark.parametrize(
    "drawing",
    [
        "<svg",
        SVG.format("<script>1</script>"),
        SVG.format("<foreignObject/>"),
        SVG.format("<style>*{}</style>"),
        SVG.format('<animate attributeName="href"/>'),
        SVG.format('<path onclick="1"/>'),
        SVG.format('<path OnClick="1"/>'),
        SVG.format('<use href="http://a/b"/>'),
        SVG.format('<use xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="http://a/b"/>'),
        SVG.format('<path style="fill: url(http://a/b)"/>'),
        SVG.format("<path style=\"fill: url( 'http://a/b' )\"/>"),
        '<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format("&a;"),
        "<svg><path/></svg>",
        '<div xmlns="http://www.w3.org/1999/xhtml"/>',
    ],
)
def test_only_plain_drawings_enter_a_page(drawing: str) -> None:
    with pytest.raises(UserError, match="SVG"):
        render(Page("t", "", [Figure(drawing, "c", "a")], []))


def test_the_same_page_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(sample_page(), tmp_path / "a.html")
    second = write(sample_page(), tmp_path / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_write_to_nowhere_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write(sample_page(), tmp_path / "missing" / "a.html")


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    style = resources.files("layerlab.lab.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in style.split("@media", 2)[:2]
    )
    assert set(light) == set(dark)
    return light, dark


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_reaches_wcag_aa(scheme: int) -> None:
    colours = palettes()[scheme]
    for text in ("ink", "muted", "accent", "holds", "refuted", "unmet"):
        for ground in ("paper", "surface"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for name, colour in colours.items():
        if name.startswith("series"):
            assert contrast(colour, colours["paper"]) >= 3.0, name


def test_every_verdict_has_a_word_and_a_sign_of_its_own() -> None:
    assert (
        len({sign for sign, _ in VERDICTS.values()})
        == len({word for _, word in VERDICTS.values()})
        == len(VERDICTS)
    )


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><iframe style="width: 360px; height: 800px; border: 0"
srcdoc="{}"></iframe><pre id="found"></pre><script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const page = event.target.contentDocument;
  const buttons = page.querySelectorAll("thead button");
  const order = () => Array.from(page.querySelectorAll("tbody th"), (cell) => cell.textContent);
  const root = page.documentElement;
  const found = {{width: root.scrollWidth, view: root.clientWidth, orders: [order()]}};
  for (const button of [buttons[6], buttons[6], buttons[0]]) {{
    if (button) button.click();
    found.orders.push(order());
  }}
  found.sorted = Array.from(page.querySelectorAll("thead th"), (head) => head.getAttribute("aria-sort"));
  const seen = (name) => Array.from(page.querySelectorAll(name), (box) => box.getClientRects().length > 0);
  found.drawings = [seen(".wide"), seen(".narrow")];
  document.getElementById("found").textContent = JSON.stringify(found);
}});</script>"""


def browse(page_html: str, folder: Path) -> tuple[dict[str, object], list[str]]:
    """Open the page 360 pixels wide: what the harness found, and what the console said."""
    (folder / "harness.html").write_text(HARNESS.format(html.escape(page_html)), encoding="utf-8")
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *(
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ),
        *(
            "--enable-logging=stderr",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
            f"--user-data-dir={folder / 'profile'}",
        ),
        *("--window-size=800,900", "--dump-dom", (folder / "harness.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome on the PATH")
def test_in_a_browser_of_360_pixels(page_html: str, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    found, console = browse(page_html, tmp_path / "good")
    assert console == []
    assert found["view"] == 360
    assert found["width"] == 360
    # Numbers first, whichever way; the verdict (no number) last; then by name.
    first, up, down, name = found["orders"]  # type: ignore[misc]
    assert [first, up, down, name] == [
        ["GCN", "GAT", "plain"],
        ["GAT", "GCN", "plain"],
        ["GCN", "GAT", "plain"],
        ["GAT", "GCN", "plain"],
    ]
    assert found["sorted"] == ["ascending", *[None] * 6]
    assert found["drawings"] == [[False] * 4, [True] * 4]

    # The same look at a page that is broken on purpose: it must not pass.
    (tmp_path / "bad").mkdir()
    fault = '<p style="width: 500px">wide</p><img src="http://localhost:9/x.png" alt=""><script>1</script>'
    found, console = browse(page_html.replace("<main", f"{fault}<main"), tmp_path / "bad")
    assert found["width"] != 360
    assert sum("Content Security Policy" in line for line in console) == 2
