"""Every row of the register of claims is in the catalogue: in the documents' order, where it says, with a falsifier."""

from __future__ import annotations

import re

import pytest

from layerlab.catalogue import catalogue
from layerlab.reproduce import CHAPTERS

# Row -> where in the documents; "" for what goes beyond them. In the documents' order, domain by domain.
ROWS = {
    "gradflow.sigmoid-chain": "Homework 4, question 1.1.1",
    "gradflow.tanh-chain": "Homework 4, question 1.1.2",
    "gradflow.relu-chain": "Solutions, question 1.1.2",
    "gradflow.rnn-tanh": "Homework 4, question 1.2.1",
    "gradflow.rnn-sigmoid": "Solutions, question 1.2.1",
    "gradflow.product": "Homework 4, question 1.2.1, hint",
    "attention.kernel-linear": "Homework 4, question 1.3.1",
    "attention.low-rank-svd": "Homework 4, question 1.3.2",
    "attention.projection": "Homework 4, question 1.3.3",
    "attention.eckart-young": "",
    "attention.full-rank-causal": "",
    "attention.conv1d": "Solutions, question 1.4.1",
    "attention.max-pool": "Solutions, question 1.4.2",
    "estimators.closed-form": "Homework 4, question 2.1",
    "estimators.unbiased": "Homework 4, question 2.1",
    "estimators.variance": "Homework 4, question 2.2",
    "estimators.slow-learning": "Homework 4, question 2.3",
    "estimators.baseline": "",
    "estimators.loo": "",
    "projection.jl": "Solutions, question 2.1.1",
    "projection.almost-orthogonal": "Solutions, question 2.1.1",
    "graph.quadratic-form": "Homework 4, question 3.1.1",
    "graph.lambda-min": "Homework 4, question 3.1.2",
    "graph.components": "Homework 4, question 3.1.3",
    "graph.lambda-max": "Homework 4, question 3.2.1",
    "graph.adjacency-interval": "Homework 4, question 3.2.2",
    "graph.bipartite-two": "Homework 4, questions 3.2.3 and 3.2.4",
    "graph.power": "Homework 4, question 3.3.1",
    "graph.oversmoothing": "Homework 4, question 3.3.2",
    "graph.gat-coefficients": "Homework 4, question 3.4.1",
    "segmentation.skips": "Solutions, question 4.2",
}

# What a row is checked with beyond the claim that bears its name: its second half, or the printed form's correction.
WITH = {
    "attention.kernel-linear": ["attention.kernel-linear-cost", "attention.softmax-cost"],
    "attention.low-rank-svd": ["attention.low-rank-cost"],
    "attention.projection": ["attention.projection-cost"],
    "estimators.unbiased": ["estimators.unbiased-sampled"],
    "estimators.variance": ["estimators.variance-sampled", "estimators.variance-largest"],
    "estimators.baseline": ["estimators.best-baseline", "estimators.mean-baseline"],
    "estimators.loo": ["estimators.loo-variance", "estimators.arm", "estimators.disarm-variance"],
    "gradflow.rnn-tanh": ["gradflow.attained", "gradflow.underflow"],
    "projection.jl": ["projection.chi-square", "projection.implied-failure"],
    "projection.almost-orthogonal": [
        *("projection.counts", "projection.rademacher", "projection.kerdock"),
        *("projection.floors", "projection.refusal"),
    ],
    "graph.oversmoothing": ["graph.oversmoothing-with-loops"],
    "segmentation.skips": ["segmentation.finest-level", "segmentation.stem-gradient"],
}

# Erratum -> the false statement, and the corrected one beside it. (Those of the experiments: see tests/reproduce.)
ERRATA = {
    "gradflow.sigmoid-layer-as-printed": "gradflow.sigmoid-layer",
    "attention.kernel-sign-as-printed": "attention.kernel-linear",
    "attention.kernel-denominator-as-printed": "attention.kernel-linear",
    "attention.low-rank-svd-as-printed": "attention.low-rank-svd",
    "attention.conv1d-edges-as-printed": "attention.conv1d",
    "attention.conv1d-shift-as-printed": "attention.conv1d",
    "attention.max-pool-as-printed": "attention.max-pool",
    "attention.max-pool-weights-as-printed": "attention.own-query-pool",
    "estimators.hint-as-printed": "estimators.variance",
    "projection.eight-for-every-eps": "projection.jl",
    "projection.unit-vectors-as-printed": "projection.almost-orthogonal",
    "graph.leading-eigenvector-as-printed": "graph.leading-eigenvector",
    "segmentation.skips-always-as-printed": "segmentation.skips",
    "segmentation.gradient-reason-as-printed": "segmentation.stem-gradient",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_a_claim_with_its_source_and_a_falsifier(row: str) -> None:
    claim = catalogue()[row]
    assert ROWS[row] in claim.source
    assert claim.expected == "holds"
    assert any(each.expected == "violated" for each in claim.falsifiers.values())


@pytest.mark.parametrize("row", WITH)
def test_a_rows_other_halves_are_claims_too(row: str) -> None:
    assert row in ROWS
    for name in WITH[row]:
        claim = catalogue()[name]
        assert claim.expected == "holds"
        assert any(each.expected == "violated" for each in claim.falsifiers.values())


def test_rows_stand_in_the_documents_order() -> None:
    assert [name for name in catalogue() if name in ROWS] == list(ROWS)
    assert list(dict.fromkeys(name.split(".")[0] for name in catalogue())) == list(CHAPTERS)


def test_questions_stand_in_their_order() -> None:
    for domain in CHAPTERS:
        questions = [
            tuple(map(int, found[1].split(".")))
            for name in ROWS
            if ROWS[name]
            and name.startswith(f"{domain}.")
            and (found := re.search(r"question\w* (\d+(?:\.\d+)*)", catalogue()[name].source))
        ]
        assert questions == sorted(questions), domain


def test_every_erratum_is_refuted_beside_what_is_right() -> None:
    refuted = {name for name, claim in catalogue().items() if claim.expected == "refuted"}
    assert refuted == set(ERRATA)
    for printed, right in ERRATA.items():
        assert catalogue()[right].expected == "holds"
        # Its control: where the corrected statement is put in its place, or it happens to be true.
        assert all(each.expected == "holds" for each in catalogue()[printed].falsifiers.values())
