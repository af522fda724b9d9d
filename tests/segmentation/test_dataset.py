"""The split of a set of images."""

from __future__ import annotations

import pytest

from layerlab.errors import UserError
from layerlab.segmentation.dataset import Parts


def test_an_image_in_two_parts_is_refused() -> None:
    with pytest.raises(UserError, match="image 1 in two"):
        Parts((0, 1), (2,), (1,))


def test_no_image_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="at least one image"):
        Parts((), (0,))
