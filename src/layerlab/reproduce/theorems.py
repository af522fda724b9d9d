"""The claims of the register: checked in parallel, each kept when it is done, and told on the page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from layerlab.catalogue import catalogue
from layerlab.claims import Claim, check
from layerlab.errors import UserError
from layerlab.lab.race import CellResult, cell_key, race
from layerlab.lab.records import create_run
from layerlab.lab.report.formula import Formula
from layerlab.lab.report.page import Block, Callout, Cell, Code, Column, Section, Table, Text
from layerlab.reproduce.chapter import Amount, Finding, Options, Step
from layerlab.reproduce.formulas import FORMULAS

_FOLDER = "claims"


@dataclass(frozen=True)
class CheckedClaim:
    """A claim and the record of its check (`layerlab.claims.CheckResult.to_dict`)."""

    claim: Claim
    record: Mapping[str, Any]

    @property
    def as_expected(self) -> bool:
        """Every subject and every falsifier came out as expected."""
        return bool(self.record["as_expected"])

    @property
    def holds(self) -> bool:
        """What the document says is true: a claim that is expected to be refuted is one that it prints wrongly."""
        return self.as_expected and self.claim.expected == "holds"

    def outcomes(self, *, falsifiers: bool) -> list[Mapping[str, Any]]:
        """Those of the falsifiers, or those of the subjects."""
        return [entry for entry in self.record["outcomes"] if (entry["role"] == "falsifier") == falsifiers]


# Seconds of a check on one core, where it takes more than the others; with --full so many times as long.
_SECONDS = {
    "segmentation.skips": 12.0,
    "segmentation.finest-level": 6.0,
    "segmentation.skips-always-as-printed": 6.0,
    "segmentation.stem-gradient": 3.5,
    "segmentation.bottleneck": 2.5,
    "segmentation.gradient-reason-as-printed": 2.0,
    "projection.jl": 1.3,
    "attention.kernel-linear-cost": 1.0,
    "gradflow.attained": 1.0,
    "attention.kernel-linear": 0.8,
}
_OTHERS, _FULL = 0.2, 4.0
TITLE = "claims"


def step(domains: Sequence[str], amount: Amount) -> Step:
    """The checks of all claims of these domains."""
    seconds = {
        claim.id: _SECONDS.get(claim.id, _OTHERS) * (_FULL if amount.full and claim.full else 1)
        for claim in _claims(domains)
    }
    return Step(TITLE, seconds, 1)


def _claims(domains: Sequence[str]) -> list[Claim]:
    return catalogue().select([f"{domain}.*" for domain in domains])


def check_claims(domains: Sequence[str], options: Options) -> list[CheckedClaim]:
    """Check every claim of these domains, in the order of the register.

    Finished ones are kept in the folder ``claims`` (``claims-full``), so that a killed reproduction goes on.

    Raises:
        UserError: the folder holds checks of claims that have changed since.
    """
    claims = _claims(domains)
    full = options.amount.full
    folder = f"{_FOLDER}-full" if full else _FOLDER
    run = create_run(
        options.out / folder,
        "claims",
        ["layerlab", "claims", "check", "--seed", str(options.claim_seed), *(["--full"] if full else [])],
        {"seed": options.claim_seed},
    )
    ids = [claim.id for claim in claims]
    cells = race(
        partial(_check, full),
        # The longest first: no process is left alone with one at the end.
        sorted(ids, key=lambda name: -_SECONDS.get(name, _OTHERS)),
        [options.claim_seed],
        workers=options.workers,
        folder=run,
        on_cell=options.told(TITLE),
    )
    found = []
    for claim in claims:
        cell = cells[cell_key(claim.id, options.claim_seed)]
        if cell.get("claim") != _fingerprint(claim):
            raise UserError(
                f"claim {claim.id} has changed since it was checked in this folder; remove its folder "
                f"{folder!r}, or choose another --out",
                file=run.path,
            )
        found.append(CheckedClaim(claim, cell["check"]))
    run.finish({"claims": ids, "as_expected": sum(each.as_expected for each in found)})
    return found


def _check(full: bool, claim_id: str, seed: int) -> CellResult:
    claim = catalogue()[claim_id]
    result = check(claim, seed, full=full)
    return {
        "metrics": {"as_expected": float(result.as_expected)},
        "claim": _fingerprint(claim),
        "check": result.to_dict(),
    }


def _fingerprint(claim: Claim) -> str:
    """Of what is claimed and what it is checked on."""
    told = (claim.id, claim.statement, claim.relation, *claim.subjects, *claim.falsifiers)
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


def command(checked: CheckedClaim) -> str:
    """What checks this claim alone, to the same digits."""
    seed = checked.record["seed"]
    options = [*(["--seed", str(seed)] if seed else []), *(["--full"] if checked.record["full"] else [])]
    return " ".join(["layerlab claims check", checked.claim.id, *options])


def finding(checked: CheckedClaim) -> Finding:
    """A claim as a row of the story."""
    subjects, broken = (checked.outcomes(falsifiers=which) for which in (False, True))
    return Finding(
        checked.claim.id,
        checked.claim.title,
        checked.claim.source,
        f"{sum(e['as_expected'] for e in subjects)} of {len(subjects)} subjects as expected; "
        f"{sum(e['as_expected'] for e in broken)} of {len(broken)} falsifiers caught",
        "holds" if checked.holds else "refuted",
        command(checked),
        dict(checked.record),
    )


def section(name: str, title: str, checks: Sequence[CheckedClaim]) -> Section:
    """Every claim of a domain with what was measured, its falsifiers among it."""
    blocks: list[Block] = []
    for checked in checks:
        claim = checked.claim
        outcomes = checked.record["outcomes"]
        right = sum(entry["as_expected"] for entry in outcomes)
        reasons = dict.fromkeys(entry["slack_reason"] for entry in outcomes if not entry["unmet"])
        headings = ("Subject", "measured", "bound", "slack", "verdict", "as expected")
        blocks += [
            Text(f"**{claim.title}.** *{claim.source}.*"),
            *_formula(claim),
            Text(f"{claim.statement}."),
            Table(
                f"`{claim.id}`: {right} of {len(outcomes)} came out as expected",
                [
                    Column(name, "right" if 1 <= position <= 3 else "left")
                    for position, name in enumerate(headings)
                ],
                [_row(entry) for entry in outcomes],
                [
                    f"measured {_RELATIONS[claim.relation]} bound. Slack: {'; '.join(reasons)}. "
                    f"Again: `{command(checked)}`."
                ],
            ),
        ]
    blocks.append(Code(f"layerlab claims check '{name}.*'", "Check these alone"))
    return Section(title, f"{name}-claims", blocks)


def _formula(claim: Claim) -> list[Block]:
    """What it says in signs, where that is written."""
    return [Formula(FORMULAS[claim.id])] if claim.id in FORMULAS else []


_RELATIONS = {"<=": "≤", ">=": "≥", "==": "="}


def _row(entry: Mapping[str, Any]) -> list[str | Cell]:
    cells = []
    for key, form in (("measured", ".6g"), ("bound", ".6g"), ("slack", ".2g")):
        value = None if entry["unmet"] else entry[key]
        cells.append(Cell("–") if value is None else Cell(f"{value:{form}}".replace("-", "−"), value))
    name = f"broken on purpose: {entry['name']}" if entry["role"] == "falsifier" else entry["name"]
    return [name, *cells, Cell(verdict=entry["verdict"]), "yes" if entry["as_expected"] else "**no**"]


def errata(checks: Sequence[CheckedClaim], experiments: Sequence[Block]) -> list[Section]:
    """What the documents print wrongly: the statement, its counterexamples, and where it happens to be true.

    Args:
        checks: of all claims.
        experiments: what is wrong of the documents' experiments.
    """
    wrong = [checked for checked in checks if checked.claim.expected == "refuted"]
    if not wrong and not experiments:
        return []
    blocks: list[Block] = [
        Text(
            "Statements that are false as printed. Each is checked like the others and must come out violated; its "
            "controls, a corrected statement or an object on which it happens to be true, must hold."
        )
    ]
    for checked in wrong:
        claim = checked.claim
        said = f"**{claim.title}** ({claim.source}): {claim.statement}."
        blocks += [Callout("refuted" if checked.as_expected else "measured", said), *_formula(claim)]
        for falsifiers, heading in ((False, "Counterexample"), (True, "Control")):
            for entry in checked.outcomes(falsifiers=falsifiers):
                what = claim.falsifiers[entry["name"]].what if falsifiers else entry["name"]
                blocks.append(Text(f"{heading}: {what}. {_numbers(claim, entry)}"))
    return [Section("Errata", "errata", [*blocks, *experiments])]


def _numbers(claim: Claim, entry: Mapping[str, Any]) -> str:
    if entry["unmet"]:
        return f"The hypotheses are not met: {entry['unmet']}."
    measured = "not a number" if entry["measured"] is None else f"{entry['measured']:.6g}"
    relation = _RELATIONS[claim.relation]
    told = f"Measured {measured}, stated {relation} {entry['bound']:.6g}: *{entry['verdict']}*."
    return told.replace("-", "−")
