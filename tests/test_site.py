"""The site leaves no page and no public name out. That it builds without a warning, `make check` sees."""

from __future__ import annotations

import importlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .loading import program

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)


def entries() -> list[str]:
    """The pages of the contents, without suffix, from the top of the checkout; some with a star."""
    index = (SITE / "index.md").read_text(encoding="utf-8")
    lines = [line for block in TOCTREE.findall(index) for line in block.splitlines()]
    named = [line for line in lines if line and not line.startswith(":")]
    return [(SITE / line).resolve().relative_to(ROOT).as_posix() for line in named]


def test_every_page_is_in_the_contents() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples" / "notebooks").glob("*"),
        *(ROOT / "examples").glob("*/README.md"),
    ]
    names = {
        page.relative_to(ROOT).with_suffix("").as_posix()
        for page in pages
        if page.suffix in (".md", ".ipynb")
    } - {"docs/site/index"}
    listed = entries()
    assert [name for name in sorted(names) if not any(fnmatch(name, entry) for entry in listed)] == []
    known = names | {"benchmarks/README"}
    assert [entry for entry in listed if not any(fnmatch(name, entry) for name in known)] == []


@pytest.mark.parametrize(
    "room", ["attention", "claims", "estimators", "gradflow", "graph", "projection", "segmentation"]
)
def test_the_reference_has_every_public_name(room: str) -> None:
    page = (SITE / "api" / f"{room}.md").read_text(encoding="utf-8")
    found = dict(MODULE.findall(page))
    assert set(found[f"layerlab.{room}"].split()) == {":members:", ":imported-members:"}
    assert importlib.import_module(f"layerlab.{room}").__all__


def test_the_modules_of_the_reference_exist() -> None:
    for page in (SITE / "api").glob("*.md"):
        for name, _ in MODULE.findall(page.read_text(encoding="utf-8")):
            assert importlib.import_module(name).__doc__, name


def test_parameters_on_lines_of_their_own_are_a_list() -> None:
    sound = program("docs/site/conf.py").sound_signatures
    one, two = (
        '<em class="sig-param"><span class="n">a</span></em>,',
        '<em class="sig-param"><b>[</b>x</em>',
    )
    entry = '<dl class="py class">\n<dt class="sig">f({})</dt>\n<dd><p>Words.</p>\n</dd></dl>'
    written = entry.format(f"\n\n<dl>\n<dd>{one}</dd>\n<dd>{two}</dd>\n</dl>\n\n")
    wanted = entry.format(f'\n\n<ul class="sig-lines">\n<li>{one}</li>\n<li>{two}</li>\n</ul>\n\n')
    assert sound(written + written) == wanted + wanted
    assert sound(entry) == entry


def test_a_corner_of_a_table_is_no_heading() -> None:
    sound = program("docs/site/conf.py").sound_tables
    row = '<tr><th class="head text-right"><p></p></th>\n<th class="head"><p>loss</p></th>\n</tr>'
    corner = '<td class="head text-right"></td>'
    assert sound(row) == f'<tr>{corner}\n<th class="head"><p>loss</p></th>\n</tr>'


def test_the_top_of_the_site_leads_to_its_first_page() -> None:
    top = (SITE / "index.html").read_text(encoding="utf-8")
    assert top.count("docs/site/index.html") == 2
