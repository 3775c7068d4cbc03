"""Bounding windows and voxel steps."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.corruption.window import bounding_window, voxel_steps


def test_window_ends_at_the_border_of_the_image() -> None:
    mask = np.zeros((6, 8, 10), bool)
    mask[1, 3, 8] = mask[2, 6, 9] = True
    assert bounding_window(mask) == (slice(1, 3), slice(3, 7), slice(8, 10))
    assert bounding_window(mask, 2) == (slice(0, 5), slice(1, 8), slice(6, 10))
    assert bounding_window(mask, np.array([0, 1, 20])) == (slice(1, 3), slice(2, 8), slice(0, 10))


def test_empty_mask_has_none() -> None:
    with pytest.raises(ValueError, match="an empty mask has no bounding box"):
        bounding_window(np.zeros((3, 3), bool))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, -1.0), (1.0, float("inf")), (1.0, float("nan"))])
def test_spacing_is_one_positive_number_per_axis(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing must be 2 positive numbers, one per axis"):
        voxel_steps(spacing, 2)
