"""What a claim consists of, and the register in which it is found by its id."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from layerlab.claims.outcome import Measurement, Relation, Verdict
from layerlab.claims.slack import DefectiveClaimError
from layerlab.errors import UserError

Expectation: TypeAlias = Literal["holds", "refuted"]
Extreme: TypeAlias = Literal["least", "greatest"]
Side: TypeAlias = Literal["below", "above"]
Factory: TypeAlias = Callable[[], Any]

_ID = re.compile(r"[a-z][a-z0-9]*\.[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Falsifier:
    """A control: what must come out the other way, or the check proves nothing.

    Args:
        what: what is broken, in a few words ("softmax over the columns").
        subject: zero-argument factory of the subject.
        replaces: keyword-only arguments of the claim's measuring function, given in place of their defaults:
            the deliberately broken block. Empty where the subject itself breaks the claim.
        expected: the verdict that must come out: "violated" (default) or "hypotheses unmet"; for a claim that
            is expected to be refuted, "holds" (a corrected companion, or a subject on which the false
            statement happens to be true).
    """

    what: str
    subject: Factory
    replaces: Mapping[str, Any] = field(default_factory=dict)
    expected: Verdict = "violated"

    def __post_init__(self) -> None:
        object.__setattr__(self, "replaces", MappingProxyType(dict(self.replaces)))


@dataclass(frozen=True)
class Claim:
    """A statement of theory and the way to check it.

    Args:
        id: ``domain.name``, lower case, words joined by hyphens.
        title: a few words.
        source: document and question, or paper and theorem.
        statement: in plain Unicode mathematics.
        hypotheses: what the subject must satisfy; the measuring function answers
            `Measurement.unmet_because` where it does not.
        relation: "<=", ">=" or "==": measured against bound.
        measure: ``(subject, generator, **replaced) -> Measurement``; all chance in it comes from the
            generator; a block that a falsifier breaks is a keyword-only argument, default the shipped one.
        subjects: default subjects, name to zero-argument factory. Of a refuted claim: its counterexamples.
        falsifiers: name to `Falsifier`; at least one.
        expected: "holds", or "refuted" for a statement that is false as printed.
        full: keyword-only arguments of the measuring function, given in place of their defaults where time is no
            matter: more repetitions. Empty where nothing is repeated.
        extreme: of a claim with "==" whose bound is the "least" or the "greatest" value that the quantity can take
            at all, whatever is broken (a deviation is not negative, a rank not above the number of rows). Any other
            claim with "==" needs falsifiers that lie above the bound and falsifiers that lie below it.

    Raises:
        DefectiveClaimError: anything malformed, no subject, no falsifier, or a falsifier that expects
            what the claim itself expects.
    """

    id: str
    title: str
    source: str
    statement: str
    hypotheses: tuple[str, ...]
    relation: Relation
    measure: Callable[..., Measurement]
    subjects: Mapping[str, Factory]
    falsifiers: Mapping[str, Falsifier]
    expected: Expectation = "holds"
    full: Mapping[str, Any] = field(default_factory=dict)
    extreme: Extreme | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "subjects", MappingProxyType(dict(self.subjects)))
        object.__setattr__(self, "full", MappingProxyType(dict(self.full)))
        object.__setattr__(self, "falsifiers", MappingProxyType(dict(self.falsifiers)))
        for defect in self._defects():
            raise DefectiveClaimError(f"claim {self.id!r}: {defect}")

    @property
    def sides(self) -> tuple[Side, ...]:
        """On which sides of its bound a measured value must not lie, and can.

        >>> from layerlab.catalogue import catalogue
        >>> catalogue()["graph.lambda-max"].sides, catalogue()["graph.components"].sides
        (('above',), ('below', 'above'))
        """
        if self.relation == "<=" or self.extreme == "least":
            return ("above",)
        if self.relation == ">=" or self.extreme == "greatest":
            return ("below",)
        return ("below", "above")

    def _defects(self) -> Iterator[str]:
        if not _ID.fullmatch(self.id):
            yield "an id reads domain.name, lower case, words joined by hyphens"
        for name in ("title", "source", "statement"):
            if not str(getattr(self, name)).strip():
                yield f"{name} is empty"
        if isinstance(self.hypotheses, str):
            yield "hypotheses is a tuple of strings, not one string"
        if self.relation not in get_args(Relation):
            yield f"relation is one of {', '.join(get_args(Relation))}, got {self.relation!r}"
        if self.expected not in get_args(Expectation):
            yield f"expected is one of {', '.join(get_args(Expectation))}, got {self.expected!r}"
        if self.extreme not in (None, *get_args(Extreme)):
            yield f"extreme is one of {', '.join(get_args(Extreme))} or None, got {self.extreme!r}"
        if self.extreme is not None and self.relation != "==":
            yield f"extreme goes with ==, not with {self.relation}"
        if not self.subjects:
            yield "it has no subject"
        if not self.falsifiers:
            yield "it has no falsifier: a check that cannot fail is a defect"
        if shared := self.subjects.keys() & self.falsifiers.keys():
            yield f"subjects and falsifiers share the names {sorted(shared)}"
        opposite = ("violated", "hypotheses unmet") if self.expected == "holds" else ("holds",)
        for name, falsifier in self.falsifiers.items():
            if falsifier.expected not in opposite:
                yield f"falsifier {name!r} must expect {' or '.join(opposite)}, not {falsifier.expected!r}"
        replaced = {f"falsifier {name!r}": falsifier.replaces for name, falsifier in self.falsifiers.items()}
        parameters = inspect.signature(self.measure).parameters
        for what, arguments in {**replaced, "full": self.full}.items():
            for block in arguments:
                if block not in parameters or parameters[block].kind is not inspect.Parameter.KEYWORD_ONLY:
                    yield f"{what} replaces {block!r}, no keyword-only argument of measure"


class Register(Mapping[str, Claim]):
    """The claims by id, in the order of registration.

    >>> Register()["graph.lambda-max"]
    Traceback (most recent call last):
    layerlab.errors.UserError: no claim is called 'graph.lambda-max'; `layerlab claims list` names them all
    """

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._claims: dict[str, Claim] = {}
        for claim in claims:
            self.register(claim)

    def register(self, claim: Claim) -> Claim:
        """Add a claim; an id that is taken raises `DefectiveClaimError`."""
        if claim.id in self._claims:
            raise DefectiveClaimError(f"two claims are called {claim.id!r}")
        self._claims[claim.id] = claim
        return claim

    def __getitem__(self, claim_id: str) -> Claim:
        if claim_id not in self._claims:
            close = difflib.get_close_matches(claim_id, self._claims, n=3)
            mend = f"did you mean {' or '.join(close)}?" if close else "`layerlab claims list` names them all"
            raise UserError(f"no claim is called {claim_id!r}; {mend}")
        return self._claims[claim_id]

    def __contains__(self, claim_id: object) -> bool:
        return claim_id in self._claims

    def __iter__(self) -> Iterator[str]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def select(self, patterns: Sequence[str] = ()) -> list[Claim]:
        """The claims whose ids match any of the shell-style patterns, each once, in order; all without any.

        Raises:
            UserError: a pattern matches nothing.
        """
        chosen: set[str] = set()
        for pattern in patterns:
            matching = fnmatch.filter(self._claims, pattern)
            # Indexing raises the error with close matches.
            chosen.update(matching or [self[pattern].id])
        return [claim for claim_id, claim in self._claims.items() if not patterns or claim_id in chosen]
