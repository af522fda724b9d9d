"""A trained run, as small as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlab.segmentation.digits import Digits
from layerlab.segmentation.runs import Trained, open_trained, train_run
from layerlab.segmentation.settings import Settings


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(widths=(4, 6), size=16, epochs=1, batch=3)
    return train_run(Digits(5, 16), settings, out=tmp_path_factory.mktemp("trained") / "run").path


@pytest.fixture(scope="session")
def trained(run_folder: Path) -> Trained:
    return open_trained(run_folder)
