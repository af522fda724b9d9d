"""How Sphinx builds the site (`make docs`). Its source is the whole checkout: links between pages stay as they are."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

project = "layerlab"
html_title = "layerlab"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/index"
include_patterns = ["docs/**", "benchmarks/README.md", "examples/**", "*.md"]
exclude_patterns = [".*", "build", "src", "tests", "runs", "reproduce", "**/results", "docs/site/index.html"]

myst_heading_anchors = 5  # as the forge makes them
nb_execution_mode = "off"  # the outputs are stored; the tests run the notebooks

# Google's sections, types from the signatures; `name` in a docstring links where there is something of that name.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["site.css", "site.js"]
templates_path = ["templates"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["index.html"]  # from the top of the site to its first page
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
# Pages leave the checkout for nobody: no web fonts, no counters. Pygments' two styles hold a contrast of 4.5.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# A signature of several lines, as Sphinx 9 writes it: a <dl> without a <dt>, which is no list to a screen reader.
_LINES = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>')


def sound_signatures(body: str) -> str:
    """``body`` with the parameters of every signature in a list that is one."""

    def listed(found: re.Match[str]) -> str:
        lines = found[1].replace("<dd>", "<li>").replace("</dd>", "</li>")
        return f'<ul class="sig-lines">\n{lines}</ul>'

    return _LINES.sub(listed, body)


def sound_tables(body: str) -> str:
    """``body`` without headings of columns that say nothing: a corner is a cell."""
    return re.sub(r'<th class="head([^"]*)"><p></p></th>', r'<td class="head\1"></td>', body)


def setup(app: Any) -> None:
    def mended(_app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
        if "body" in context:
            context["body"] = sound_tables(sound_signatures(context["body"]))

    app.connect("html-page-context", mended)
