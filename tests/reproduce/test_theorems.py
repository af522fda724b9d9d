"""Records of claims that were checked before: taken as they were written, or not at all."""

from __future__ import annotations

import copy
import json

import pytest

from layerlab.catalogue import catalogue
from layerlab.claims import check
from layerlab.reproduce.theorems import _is_record


@pytest.mark.parametrize("claim", ["gradflow.product", "graph.lambda-max"])
def test_what_a_check_writes_is_a_record(claim: str) -> None:
    register = catalogue()
    record = json.loads(json.dumps(check(register[claim], 0).to_dict()))
    assert _is_record(record)
    for name in ("seed", "full", "as_expected", "outcomes"):
        assert not _is_record({**record, name: {}})
        assert not _is_record({key: value for key, value in record.items() if key != name})
    for name in ("measured", "bound", "slack", "verdict", "unmet", "slack_reason", "as_expected", "role"):
        changed = copy.deepcopy(record)
        changed["outcomes"][1][name] = {}
        assert not _is_record(changed)
    assert not _is_record(None)
