"""The page of every command, in a real browser: silent, narrow enough for a phone, and accessible in light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from layerlab.cli import app

from .commands import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Cli = Callable[..., Any]
PHONE, DESK = {"width": 360, "height": 780}, {"width": 1440, "height": 900}
# What axe could not decide about words in drawings is decided by `contrasts`.
AXE = """axe.run(document, {resultTypes: ["violations", "incomplete"], ...RULES}).then((found) => JSON.stringify({
  violations: found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 120)}`)),
  undecided: found.incomplete.filter((rule) => rule.id !== "color-contrast").map((rule) => rule.id),
  rules: found.passes.length}))"""
CONTRASTS = """(() => {
  const seen = new Map();
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  for (const text of document.querySelectorAll(".drawing text")) {
    if (text.getClientRects().length === 0) continue;
    const ink = light(getComputedStyle(text).fill);
    seen.set(getComputedStyle(text).fill, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
  }
  return Object.fromEntries(seen);
})()"""


def test_every_command_with_a_page_is_here() -> None:
    def walk(group: Any, words: tuple[str, ...] = ()) -> list[str]:
        if hasattr(group, "commands"):
            return [name for word, each in group.commands.items() for name in walk(each, (*words, word))]
        told = f"{group.help} {' '.join(getattr(option, 'help', '') or '' for option in group.params)}"
        return [" ".join(words)] if "report.html" in told else []

    written = set(walk(get_command(app)))
    assert len(written) > 10
    # `model linearize` calls its page part of what it writes.
    assert written | {"model linearize"} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_silent_narrow_and_accessible(
    name: str, browser: Browser, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*command: object) -> None:
        done = cli(*command)
        assert done.status == 0, done.err

    file = PAGES[name](run, tmp_path) / "report.html"
    assert file.stat().st_size < 5_000_000
    found = look(browser, file)
    assert found["said"] == []
    assert found["width"] == PHONE["width"]
    for scheme in ("light", "dark"):
        checked = found[scheme]
        assert checked["violations"] == [] and checked["undecided"] == []
        assert checked["rules"] > (20 if scheme == "light" else 0)
        assert min(checked["contrasts"].values(), default=21) >= 4.5


FAULTS = {
    "a console error": ("<script>1</script>", "said"),
    "something from outside": ('<img src="http://localhost:9/x.png" alt="">', "said"),
    "a wide box": ('<p style="width: 500px">wide</p>', "width"),
    "a pale word": ('<p style="color: #aaa; background: #bbb">pale</p>', "violations"),
    "a word for daylight": ('<p style="color: #222">dark</p>', "dark"),
    "a picture without words": ('<img src="data:,">', "violations"),
    "pale words in a drawing": (
        '<div class="drawing"><svg viewBox="0 0 9 9"><text style="fill: #888">a</text></svg></div>',
        "contrasts",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_page_is_found(fault: str, browser: Browser, tmp_path: Path) -> None:
    from layerlab.lab.report.page import Page, Section, Text, render

    html = render(Page("A page", "", [Text("Words.")], [Section("One", "one", [])]))
    markup, where = FAULTS[fault]
    (tmp_path / "report.html").write_text(html.replace("<h2", f"{markup}<h2", 1), encoding="utf-8")
    found = look(browser, tmp_path / "report.html")
    seen = {
        "said": bool(found["said"]),
        "width": found["width"] > PHONE["width"],
        "violations": bool(found["light"]["violations"]),
        "dark": bool(found["dark"]["violations"]),
        "contrasts": min(found["light"]["contrasts"].values(), default=21) < 4.5,
    }
    assert seen[where]


def look(browser: Browser, file: Path) -> dict[str, Any]:
    """What a page shows: what the console said, its width on a phone, and axe's findings, light and dark."""
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page = browser.new_page(viewport=PHONE, color_scheme="light")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda problem: said.append(str(problem)))
    page.goto(file.as_uri())
    found: dict[str, Any] = {"width": page.evaluate("document.documentElement.scrollWidth")}
    found["said"] = list(said)
    # Past the page's own policy, which rightly lets in no script.
    tools = page.context.new_cdp_session(page)
    tools.send("Runtime.evaluate", {"expression": axe})
    # In the dark nothing but the colours is another.
    colours = '{runOnly: ["color-contrast"]}'
    for scheme, size, rules in (("light", PHONE, "{}"), ("dark", DESK, colours)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        asked = {"expression": AXE.replace("RULES", rules), "awaitPromise": True, "returnByValue": True}
        found[scheme] = json.loads(tools.send("Runtime.evaluate", asked)["result"]["value"])
        asked = {"expression": CONTRASTS, "returnByValue": True}
        found[scheme]["contrasts"] = tools.send("Runtime.evaluate", asked)["result"]["value"]
    page.close()
    return found
