"""What every room's register of claims is tested for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check
from layerlab.claims.checking import CheckResult

THEORY = Path(__file__).parents[1] / "docs" / "theory"


def checked_as_expected(claim: Claim, seed: int) -> CheckResult:
    """The result of the check: every subject and falsifier came out as expected, violations lie on every side."""
    result = check(claim, seed)
    wrong = [entry.to_dict() for entry in result.checked if not entry.as_expected]
    assert not wrong, wrong
    assert result.untried_sides == ()
    # What is broken lies far beyond the slack: none is so wide that it nearly lets a mistake pass.
    for entry in result.checked:
        outcome = entry.outcome
        if entry.role == "falsifier" and outcome.verdict == "violated":
            assert abs(outcome.measured - outcome.bound) > 3 * outcome.slack, entry.name
    return result


def is_in_the_catalogue(domain: str, claims: Sequence[Claim]) -> None:
    """In the same order, and every claim bears the name of its domain."""
    assert [name for name in catalogue() if name.startswith(f"{domain}.")] == [claim.id for claim in claims]
    assert {claim.id.split(".")[0] for claim in claims} == {domain}


def is_told_on_its_page(domain: str, claims: Sequence[Claim]) -> None:
    """Each claim has a section of the theory page, in the same order, that names its falsifiers."""
    page = (THEORY / f"{domain}.md").read_text(encoding="utf-8")
    assert re.findall(rf"^## `({domain}\.[^`]+)`$", page, flags=re.MULTILINE) == [c.id for c in claims]
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for claim in claims:
        own = next(section for section in sections if section.startswith(f"`{claim.id}`"))
        assert all(f"`{name}`" in own for name in claim.falsifiers), claim.id
