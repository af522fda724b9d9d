"""Checking a claim: every subject and every falsifier, each with a generator of its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from layerlab.claims.outcome import Outcome, Verdict
from layerlab.claims.register import Claim, Factory, Side
from layerlab.claims.slack import DefectiveClaimError
from layerlab.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Role: TypeAlias = Literal["subject", "falsifier", "given"]


@dataclass(frozen=True)
class Checked:
    """One subject or falsifier of a check, with its outcome.

    Args:
        name: name of the subject or falsifier.
        role: "subject" (a default one), "falsifier", or "given" (the caller's own).
        accepted: the verdicts that count as expected.
        outcome: what came out.
    """

    name: str
    role: Role
    accepted: tuple[Verdict, ...]
    outcome: Outcome

    @property
    def as_expected(self) -> bool:
        """An accepted verdict, of a number: a NaN is a failed measurement and refutes nothing."""
        number = self.outcome.unmet is not None or not math.isnan(self.outcome.measured)
        return number and self.outcome.verdict in self.accepted

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record or for JSON."""
        return {
            "name": self.name,
            "role": self.role,
            **self.outcome.to_dict(),
            "accepted": list(self.accepted),
            "as_expected": self.as_expected,
        }


@dataclass(frozen=True)
class CheckResult:
    """A claim and the outcomes of all that was measured for it."""

    claim: Claim
    seed: int
    checked: tuple[Checked, ...]
    full: bool = False

    @property
    def as_expected(self) -> bool:
        """Every subject and every falsifier came out as expected."""
        return all(entry.as_expected for entry in self.checked)

    @property
    def untried_sides(self) -> tuple[Side, ...]:
        """The sides of the bound on which no violation came out: a mistake on that side might pass as well.

        A refuted claim is violated by its counterexamples, one of which is enough.
        """
        if self.claim.expected == "refuted":
            return ()
        tried = {_side(entry.outcome) for entry in self.checked if entry.outcome.verdict == "violated"}
        return tuple(side for side in self.claim.sides if side not in tried)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record or for JSON; the same for the same seed, bit for bit."""
        return {
            "id": self.claim.id,
            "title": self.claim.title,
            "source": self.claim.source,
            "relation": self.claim.relation,
            "expected": self.claim.expected,
            "seed": self.seed,
            "full": self.full,
            "as_expected": self.as_expected,
            "outcomes": [entry.to_dict() for entry in self.checked],
        }


def check(
    claim: Claim,
    seed: int = 0,
    subjects: Mapping[str, Factory] | None = None,
    *,
    full: bool = False,
) -> CheckResult:
    """Measure every subject and every falsifier of a claim.

    Expected of a default subject: "holds" ("violated" where the claim is expected to be refuted); of a
    falsifier: the verdict that it names. Each one draws from its own generator, derived from seed, claim id
    and name, so that adding one moves no other.

    Args:
        claim: the claim.
        seed: not negative.
        subjects: the caller's own subjects, measured in place of the default ones. There, unmet hypotheses
            are an answer and no failure, and of a claim that is expected to be refuted every verdict is one
            (a NaN never is).
        full: repeat more often what is repeated at all, see `Claim.full`.

    Raises:
        UserError: a negative seed, or whatever the measuring function has to say about a given subject. Any
            other exception is a bug and rises as it is.
    """
    if seed < 0:
        raise UserError(f"a seed is not negative, got {seed}")
    repeated = claim.full if full else {}
    wanted: tuple[Verdict, ...] = ("holds",) if claim.expected == "holds" else ("violated",)
    role: Role = "subject"
    if subjects is not None:
        role, wanted = "given", ("holds", "hypotheses unmet")
        if claim.expected == "refuted":
            wanted = get_args(Verdict)
    measured = [
        Checked(name, role, wanted, _measure(claim, seed, name, factory, repeated))
        for name, factory in (claim.subjects if subjects is None else subjects).items()
    ]
    controls = [
        Checked(
            name,
            "falsifier",
            (falsifier.expected,),
            _measure(claim, seed, name, falsifier.subject, {**repeated, **falsifier.replaces}),
        )
        for name, falsifier in claim.falsifiers.items()
    ]
    return CheckResult(claim, seed, (*measured, *controls), full)


def _measure(claim: Claim, seed: int, name: str, factory: Factory, replaces: Mapping[str, Any]) -> Outcome:
    outcome = Outcome(
        claim.relation, claim.measure(factory(), _generator(seed, claim.id, name), **replaces), seed
    )
    if outcome.verdict == "violated" and claim.extreme is not None and _side(outcome) not in claim.sides:
        raise DefectiveClaimError(
            f"claim {claim.id!r} calls its bound the {claim.extreme} value, {outcome.bound:.6g}, but {name!r} is"
            f" {_side(outcome)} it: {outcome.measured:.6g}"
        )
    return outcome


def _side(outcome: Outcome) -> Side:
    return "below" if outcome.measured < outcome.bound else "above"


def _generator(seed: int, claim_id: str, name: str) -> np.random.Generator:
    import numpy as np  # here, so that importing this module stays light

    digest = hashlib.sha256(f"{claim_id}\0{name}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])
