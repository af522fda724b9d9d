"""Formulas on a page: TeX in, MathML out, which browsers set and screen readers speak without a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layerlab.errors import UserError


@dataclass(frozen=True)
class Formula:
    """A formula on a line of its own, in TeX.

    Args:
        tex: as between ``\\[`` and ``\\]``, without them. It may break on a phone where ``\\qquad`` stands.
        label: what it says, for those who move from block to block by ear.
    """

    tex: str
    label: str = "Formula"
    block: ClassVar[str] = "formula"

    @property
    def parts(self) -> list[str]:
        """What stays on one line each."""
        return self.tex.split("\\qquad")


def mathml(tex: str) -> str:
    r"""``tex`` as one ``<math>`` element (MathML Core), set as a display.

    Args:
        tex: a formula; nothing in it can become other markup than MathML.

    Returns:
        The element.

    Raises:
        UserError: it is no TeX, or a command is unknown.

    >>> mathml(r"a \le b")
    '<math display="block"><mi>a</mi><mo>≤</mo><mi>b</mi></math>'
    """
    import math_core

    try:
        converter = math_core.LatexToMathML(fancy_error=False)
        return str(converter.convert_with_local_state(tex, displaystyle=True))
    except math_core.LatexError as problem:
        raise UserError(f"expected a formula in TeX, got {tex!r}: {problem}; mend the formula") from problem
