"""What a claim is made of, and the register of claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from toy_claims import claim

from layerlab.claims import (
    DefectiveClaimError,
    Falsifier,
    Register,
)
from layerlab.errors import UserError


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"id": "twice"}, "domain.name"),
        ({"id": "Test.twice"}, "domain.name"),
        ({"id": "test.twice_as"}, "domain.name"),
        ({"id": "test.twice-"}, "domain.name"),
        ({"title": " "}, "title is empty"),
        ({"source": ""}, "source is empty"),
        ({"statement": ""}, "statement is empty"),
        ({"hypotheses": "x ≥ 0"}, "tuple of strings"),
        ({"relation": "<"}, "relation is one of"),
        ({"expected": "true"}, "expected is one of"),
        ({"extreme": "lowest", "relation": "=="}, "extreme is one of least, greatest or None, got 'lowest'"),
        ({"extreme": "least"}, "extreme goes with ==, not with <="),
        ({"subjects": {}}, "no subject"),
        ({"falsifiers": {}}, "no falsifier"),
        ({"falsifiers": {"half": Falsifier("x", lambda: -1.0)}}, "share the names"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, expected="holds")}}, "must expect violated"),
        ({"expected": "refuted"}, "must expect holds, not"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, replaces={"treble": 3})}}, "replaces 'treble'"),
        ({"falsifiers": {"a": Falsifier("x", lambda: 1.0, replaces={"subject": 3})}}, "replaces 'subject'"),
        ({"full": {"subject": 3}}, "full replaces 'subject'"),
    ],
)
def test_a_malformed_claim_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DefectiveClaimError, match=match):
        claim(**changes)


@pytest.mark.parametrize("relation", ["<=", ">=", "=="])
def test_a_claim_has_one_of_three_relations(relation: Any) -> None:
    assert claim(relation=relation).relation == relation


def test_a_claim_cannot_be_changed_later() -> None:
    made = claim()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.expected = "refuted"  # type: ignore[misc]
    for mapping in (made.subjects, made.falsifiers, made.full, made.falsifiers["triple"].replaces):
        assert isinstance(mapping, Mapping)
        with pytest.raises(TypeError):
            mapping["more"] = 1  # type: ignore[index]


def test_the_register_refuses_a_second_claim_of_one_id() -> None:
    register = Register([claim()])
    with pytest.raises(DefectiveClaimError, match=r"two claims are called 'test\.twice'"):
        register.register(claim(title="another"))
    assert len(register) == 1
    assert register["test.twice"].title == "Twice"


def test_select_matches_patterns_once_and_in_order() -> None:
    register = Register([claim(id=name) for name in ("b.one", "a.two", "a.one")])
    ids = lambda *patterns: [found.id for found in register.select(patterns)]  # noqa: E731
    assert ids() == ["b.one", "a.two", "a.one"]
    assert ids("a.*") == ["a.two", "a.one"]
    assert ids("*.one", "a.one", "b.?ne") == ["b.one", "a.one"]


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("test.twise", r"no claim is called 'test\.twise'; did you mean test\.twice\?"),
        ("zzz.*", "claims list"),
    ],
)
def test_an_unknown_claim_names_close_ones(pattern: str, match: str) -> None:
    register = Register([claim()])
    with pytest.raises(UserError, match=match):
        register.select([pattern])
    assert pattern not in register


def test_no_more_than_three_close_ones_are_named() -> None:
    register = Register([claim(id=f"test.twice-{number}") for number in range(6)])
    with pytest.raises(UserError) as caught:
        register.select(["test.twice"])
    assert str(caught.value).count("test.twice-") == 3
