"""Formulas: TeX that becomes MathML, and nothing else."""

from __future__ import annotations

import pytest

from layerlab.errors import UserError
from layerlab.lab.report.formula import Formula, mathml
from layerlab.lab.report.page import Page, render


def test_a_formula_is_set_part_by_part_with_its_name() -> None:
    html = render(Page("t", "", [Formula(r"a \le b, \qquad c = \frac{1}{2}", "The bound")], []))
    assert html.count("<math ") == 2
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in html
    assert 'role="group" aria-label="The bound"' in html


@pytest.mark.parametrize("tex", [r"\text{<script>alert(1)</script>}", "<b>", r"a \& b"])
def test_what_is_markup_stays_text(tex: str) -> None:
    found = mathml(tex)
    assert "<script" not in found and "<b>" not in found
    assert "&lt;" in found or "&amp;" in found


@pytest.mark.parametrize("tex", [r"\nope x", "{a", r"\href{javascript:alert(1)}{x}", r"\frac{1}"])
def test_what_is_no_tex_is_refused_in_one_line(tex: str) -> None:
    with pytest.raises(UserError, match=r"^expected a formula in TeX, got .*; mend the formula$") as caught:
        render(Page("t", "", [Formula(tex)], []))
    assert "\n" not in str(caught.value)
