"""Every claim has a formula, every formula a claim, and each can be set."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from layerlab.catalogue import catalogue
from layerlab.lab.report.formula import Formula, mathml
from layerlab.reproduce.formulas import FORMULAS


def test_the_register_and_the_formulas_name_the_same_claims() -> None:
    assert sorted(FORMULAS) == sorted(claim.id for claim in catalogue().select(["*"]))


@pytest.mark.parametrize("claim", FORMULAS)
def test_a_formula_is_set_whole(claim: str) -> None:
    for part in Formula(FORMULAS[claim]).parts:
        # The one entity that the converter writes has a meaning in HTML only.
        root = ET.fromstring(mathml(part).replace("&ApplyFunction;", ""))
        said = "".join(root.itertext())
        assert said.strip() and "\\" not in said
        assert not root.findall(".//merror")
