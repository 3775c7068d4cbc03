"""Mean symmetric surface distance: by hand, and as MONAI measures it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance
from scipy import ndimage

from monai_noisylabel.corruption import surface_distance


def _row(text: str) -> np.ndarray:
    return np.array([character == "#" for character in text])


def test_intervals_by_hand() -> None:
    # Surfaces: {1, 5} and {1, 8}. From the first: 0 and 3 (5 to 8); from the second: 0 and 3. Mean 6 / 4.
    assert surface_distance(_row(".#####...."), _row(".########.")) == 1.5
    # An interval of one voxel is its own surface: 2 and 4 to 3: 1 + 1; 3 to the nearer one: 1. Mean 3 / 3.
    assert surface_distance(_row("..###..."), _row("...#....")) == 1.0


def test_spacing_counts_millimetres_along_each_axis() -> None:
    one, other = np.zeros((2, 8, 8), bool)
    one[2, 2] = other[2, 5] = True
    assert surface_distance(one, other, (2.0, 0.5)) == 1.5
    assert surface_distance(one.T, other.T, (2.0, 0.5)) == 6.0


def test_the_border_of_the_image_ends_a_structure() -> None:
    # "####" has the surface {0, 3}, "##.." has {0, 1}: distances 0, 2 (3 to 1) and 0, 1 (1 to 0). Mean 3 / 4.
    assert surface_distance(_row("####"), _row("##..")) == 0.75


@pytest.mark.parametrize("shape", [(40, 30), (24, 20, 12)])
@pytest.mark.parametrize("spacing", [None, (0.7, 1.3, 4.0)])
def test_equals_that_of_monai(shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    spacing = None if spacing is None else spacing[: len(shape)]
    generator = np.random.default_rng(0)
    for _ in range(3):
        smooth = [ndimage.gaussian_filter(generator.normal(size=shape), 3) for _ in range(2)]
        one, other = (field > np.quantile(field, 0.8) for field in smooth)
        batched = [torch.tensor(mask)[None, None] for mask in (one, other)]
        expected = compute_average_surface_distance(*batched, include_background=True, symmetric=True, spacing=spacing)
        assert surface_distance(one, other, spacing) == pytest.approx(float(expected), rel=1e-6)
        assert surface_distance(other, one, spacing) == pytest.approx(surface_distance(one, other, spacing))


def test_equal_and_empty_masks() -> None:
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert surface_distance(empty, empty) == surface_distance(full, full) == 0.0
    assert surface_distance(empty, full) is None
    assert surface_distance(full, empty) is None


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, 1.0, 1.0)])
def test_spacing_must_fit(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing must be 2 positive numbers, one per axis"):
        surface_distance(np.ones((3, 3), bool), np.ones((3, 3), bool), spacing)


def test_masks_are_not_changed() -> None:
    one, other = np.eye(6, dtype=bool), np.tri(6, dtype=bool)
    surface_distance(one, other)
    np.testing.assert_array_equal(one, np.eye(6))
    np.testing.assert_array_equal(other, np.tri(6))
