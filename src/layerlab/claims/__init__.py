"""Claims: statements of theory that are checked by measuring, each with a falsifier on which the check fails.

A `Claim` says what is asserted; its measuring function returns a `Measurement` of one subject; the verdict is
derived from it by one rule (`Outcome.verdict`), which no author of a claim can overrule. `check` measures
every default subject and every falsifier, and says whether all of them came out as expected. This package
knows no domain; the claims live in each domain's ``theorems.py`` and are gathered by `layerlab.catalogue`.
"""

from __future__ import annotations

from layerlab.claims.checking import Checked, CheckResult, check
from layerlab.claims.outcome import Measurement, Outcome, Relation, Verdict
from layerlab.claims.register import Claim, Falsifier, Register
from layerlab.claims.slack import DefectiveClaimError, Slack, confidence, exact, rounding

__all__ = [
    "CheckResult",
    "Checked",
    "Claim",
    "DefectiveClaimError",
    "Falsifier",
    "Measurement",
    "Outcome",
    "Register",
    "Relation",
    "Slack",
    "Verdict",
    "check",
    "confidence",
    "exact",
    "rounding",
]
