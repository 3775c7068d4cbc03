"""Boundary shifts against hand-made squares, discs and balls, and against an exhaustive distance search."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from monai_noisylabel.corruption import (
    BoundaryNoise,
    case_generator,
    draw_boundary_shift,
    shift_boundaries,
    shift_boundary,
)


def _square(size: int = 40, start: int = 15, stop: int = 25) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:stop, start:stop] = True
    return mask


def _ball(size: int, radius: float, axes: int) -> np.ndarray:
    centre = (size - 1) / 2
    return sum((grid - centre) ** 2 for grid in np.indices((size,) * axes)) <= radius**2


def _exhaustive_shift(mask: np.ndarray, amount: float, spacing: np.ndarray) -> np.ndarray:
    """The definition by search over all pairs of voxels; the deepest voxels where nothing would be left."""
    target = np.argwhere(mask if amount > 0 else ~mask) * spacing
    voxels = np.stack(np.indices(mask.shape), -1).reshape(-1, mask.ndim) * spacing
    nearest = np.sqrt(((voxels[:, None] - target[None]) ** 2).sum(-1)).min(1).reshape(mask.shape)
    shifted = nearest <= amount + 1e-9 if amount > 0 else nearest > -amount + 1e-9
    return shifted if shifted.any() else nearest > nearest.max() - 1e-9


def test_dilated_square_has_rounded_corners() -> None:
    # 10 x 10 square, distance 3: four 10 x 3 sides, and at each corner the lattice points (x, y) >= 1 with
    # x^2 + y^2 <= 9: (1,1) (1,2) (2,1) (2,2) = 4. In all 100 + 120 + 16 = 236.
    shifted = shift_boundary(_square(), 3)
    assert shifted.sum() == 236
    assert shifted[12:28, 15:25].all()
    assert shifted[13, 13]
    assert not shifted[12, 14]
    assert not shifted[11].any()


def test_eroded_square_loses_whole_layers() -> None:
    # Erosion by 3 takes three layers from each side: 4 x 4 remain.
    np.testing.assert_array_equal(shift_boundary(_square(), -3), _square(40, 18, 22))


def test_cube_in_three_dimensions() -> None:
    cube = np.zeros((12, 12, 12), bool)
    cube[4:8, 4:8, 4:8] = True
    # Distance 1 adds one layer on each of the six faces: 64 + 6 * 16; edges are sqrt(2) away. Distance 1.5 >
    # sqrt(2) adds the 12 edges of 4 voxels as well; corners are sqrt(3) away and stay out.
    assert shift_boundary(cube, 1).sum() == 64 + 96
    assert shift_boundary(cube, 1.5).sum() == 64 + 96 + 48
    assert shift_boundary(cube, -1).sum() == 8


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("shift", [-6, -3, 3, 6])
def test_ball_keeps_its_shape(axes: int, shift: int) -> None:
    # A ball of radius r becomes one of radius r + b: volume ratio ((r + b) / r)^axes, up to the half voxel by
    # which the edge of a digital ball is uncertain.
    radius = 15.0
    ball = _ball(51, radius, axes)
    ratio = shift_boundary(ball, shift).sum() / ball.sum()
    assert ((radius + shift - 0.6) / radius) ** axes < ratio < ((radius + shift + 0.6) / radius) ** axes


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0), (1.5, 0.7)])
@pytest.mark.parametrize("amount", [-4.0, -1.5, -1.0, 1.0, 1.4, 3.3, 8.0, 1000.0])
def test_equals_the_exhaustive_search_in_2d(amount: float, spacing: tuple[float, float] | None) -> None:
    generator = np.random.default_rng(0)
    mask = np.kron(generator.random((5, 4)) < 0.4, np.ones((5, 6))).astype(bool)
    steps = np.ones(2) if spacing is None else np.asarray(spacing)
    expected = _exhaustive_shift(mask, amount, steps)
    np.testing.assert_array_equal(shift_boundary(mask, amount, spacing), expected)


@pytest.mark.parametrize("amount", [-1.0, 1.5, 4.0])
def test_equals_the_exhaustive_search_in_3d(amount: float) -> None:
    mask = np.kron(np.random.default_rng(3).random((3, 3, 2)) < 0.4, np.ones((3, 4, 4))).astype(bool)
    spacing = (0.8, 0.8, 2.5)
    expected = _exhaustive_shift(mask, amount, np.asarray(spacing))
    np.testing.assert_array_equal(shift_boundary(mask, amount, spacing), expected)


def test_spacing_is_in_mm_per_axis() -> None:
    # Voxels of 0.8 x 0.8 x 5 mm, 4 mm: five voxels in the plane, none across slices; 5 mm reaches the next
    # slice.
    mask = np.zeros((31, 31, 9), bool)
    mask[15, 15, 4] = True
    inside = np.argwhere(shift_boundary(mask, 4, (0.8, 0.8, 5.0)))
    assert (inside.min(0).tolist(), inside.max(0).tolist()) == ([10, 10, 4], [20, 20, 4])
    across = np.argwhere(shift_boundary(mask, 5, (0.8, 0.8, 5.0)))
    assert (across.min(0)[2], across.max(0)[2]) == (3, 5)


def test_distances_that_are_whole_voxels_survive_rounding() -> None:
    # 3 * 0.1 is 0.30000000000000004 in binary, more than 0.3, and still three voxels.
    mask = np.zeros(20, bool)
    mask[8:15] = True
    assert np.flatnonzero(shift_boundary(mask, 0.3, [0.1])).tolist() == list(range(5, 18))
    assert np.flatnonzero(shift_boundary(mask, -0.3, [0.1])).tolist() == [11]


def test_zero_shift_is_the_identity() -> None:
    mask = np.random.default_rng(1).random((9, 8, 7)) < 0.3
    shifted = shift_boundary(mask, 0)
    np.testing.assert_array_equal(shifted, mask)
    assert shifted is not mask


@pytest.mark.parametrize("axes", [2, 3])
def test_erosion_keeps_the_deepest_voxels(axes: int) -> None:
    # Sides of 5: depths 1, 2, 3; only the centre is 3 deep. Sides of 4: the central 2^axes voxels are 2 deep.
    for side, left in ((5, 1), (4, 2**axes)):
        mask = np.zeros((12,) * axes, bool)
        mask[(slice(3, 3 + side),) * axes] = True
        for amount in (-3, -4, -100):
            shifted = shift_boundary(mask, amount)
            assert shifted.sum() == left
            assert (shifted & mask).sum() == left


def test_single_voxel_survives() -> None:
    mask = np.zeros((7, 7, 7), bool)
    mask[0, 3, 6] = True
    np.testing.assert_array_equal(shift_boundary(mask, -10), mask)


def test_image_border_is_no_boundary() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:6] = True
    assert np.flatnonzero(shift_boundary(mask, -2).all(1)).tolist() == [0, 1, 2, 3]
    full = np.ones((6, 6), bool)
    assert shift_boundary(full, -2).all()
    assert shift_boundary(full, 2).all()


def test_absent_structure_stays_absent() -> None:
    assert not shift_boundary(np.zeros((5, 5), bool), 4).any()
    assert not shift_boundaries(np.zeros((2, 5, 5), bool), [4, -4]).any()


def test_dilations_that_meet_stop_halfway() -> None:
    # Columns 0-4 and 10-14 of 20, both dilated by 8: columns 5-9 lie between them. 5, 6 are nearer to the
    # first, 8, 9 to the second, 7 is 3 from both and goes to the earlier. The second goes on freely to column
    # 19.
    masks = np.zeros((2, 3, 20), bool)
    masks[0, :, :5] = True
    masks[1, :, 10:15] = True
    first, second = shift_boundaries(masks, [8, 8])[:, 0]
    assert np.flatnonzero(first).tolist() == list(range(8))
    assert np.flatnonzero(second).tolist() == list(range(8, 20))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_dilation_takes_what_a_neighbour_gives_up_but_not_what_it_keeps(order: tuple[int, int]) -> None:
    # A in columns 0-9, B in 10-19 of 30. A dilated by 6 would reach 15. B kept: A gains nothing. B eroded by
    # 4 keeps 14-15 (its right edge recedes too): A gains 10-13 and not 14, 15. The order of the structures is
    # of no matter.
    masks = np.zeros((2, 3, 30), bool)
    masks[0, :, :10] = True
    masks[1, :, 10:20] = True
    for b_amount, a_expected, b_expected in ((0, range(10), range(10, 20)), (-4, range(14), range(14, 16))):
        amounts = np.array([6, b_amount])[list(order)].tolist()
        shifted = shift_boundaries(masks[list(order)], amounts)[np.argsort(order)][:, 0]
        assert np.flatnonzero(shifted[0]).tolist() == list(a_expected)
        assert np.flatnonzero(shifted[1]).tolist() == list(b_expected)


def test_shifted_structures_neither_overlap_nor_vanish() -> None:
    generator = np.random.default_rng(5)
    for _ in range(30):
        label = np.kron(generator.integers(0, 4, (4, 5)), np.ones((4, 4), int))
        masks = np.stack([label == value for value in (1, 2, 3)])
        amounts = generator.integers(-9, 10, 3).tolist()
        shifted = shift_boundaries(masks, amounts)
        assert shifted.sum(0).max() <= 1
        np.testing.assert_array_equal(shifted.any((1, 2)), masks.any((1, 2)))
        # Nothing beyond what each structure would be on its own, and no voxel lost that one of them wanted.
        alone = shift_boundaries(masks, amounts, overlap=True)
        assert not (shifted & ~alone).any()
        np.testing.assert_array_equal(shifted.any(0), alone.any(0))


def test_overlapping_structures_are_shifted_by_themselves() -> None:
    lung, clavicle = _square(40, 10, 30), _square(40, 14, 20)
    shifted = shift_boundaries(np.stack([lung, clavicle]), [-2, 3], overlap=True)
    np.testing.assert_array_equal(shifted[0], shift_boundary(lung, -2))
    np.testing.assert_array_equal(shifted[1], shift_boundary(clavicle, 3))


def test_input_is_not_changed() -> None:
    masks = np.stack([_square(), np.roll(_square(), 12, 0)])
    before = masks.copy()
    shift_boundaries(masks, [4, -2])
    shift_boundary(masks[0], 4)
    np.testing.assert_array_equal(masks, before)


@pytest.mark.parametrize("beta", [5, 10])
def test_drawn_shifts_are_uniform_in_size_and_fair_in_sign(beta: int) -> None:
    # 7 sizes x 2 signs, 7000 draws: 500 each with standard deviation sqrt(7000 * 1/14 * 13/14) = 21.5; 5 of
    # them.
    draws = [draw_boundary_shift(beta, case_generator(0, f"case{index}", beta)) for index in range(7000)]
    values, counts = np.unique(draws, return_counts=True)
    sizes = list(range(beta - 3, beta + 4))
    assert values.tolist() == [-size for size in reversed(sizes)] + sizes
    assert np.abs(counts - 500).max() < 108


def test_small_beta_shifts_by_at_least_one() -> None:
    draws = {draw_boundary_shift(2, case_generator(0, f"case{index}")) for index in range(200)}
    assert draws == {-5, -4, -3, -2, -1, 1, 2, 3, 4, 5}


def test_larger_shift_contains_smaller_shift() -> None:
    mask = _ball(41, 9, 2)
    shifted = [shift_boundary(mask, amount) for amount in range(-8, 9)]
    assert all((smaller <= larger).all() for smaller, larger in pairwise(shifted))


@pytest.mark.parametrize(
    ("amount", "spacing", "message"),
    [
        (float("nan"), None, "amount must be finite, got nan"),
        (float("-inf"), None, "amount must be finite, got -inf"),
        (1, (1.0,), r"spacing must be 2 positive numbers, one per axis, got \(1.0,\)"),
        (1, (1.0, 0.0), "spacing must be 2 positive numbers"),
        (1, (1.0, float("nan")), "spacing must be 2 positive numbers"),
    ],
)
def test_errors(amount: float, spacing: tuple[float, ...] | None, message: str) -> None:
    for mask in (_square(), np.zeros((5, 5), bool)):
        with pytest.raises(ValueError, match=message):
            shift_boundary(mask, amount, spacing)
    with pytest.raises(ValueError, match=message):
        shift_boundaries(_square()[None], [amount], spacing)


def test_one_amount_per_structure() -> None:
    with pytest.raises(ValueError, match="1 structures need as many amounts, got 2"):
        shift_boundaries(_square()[None], [1, 2])


def test_beta_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="beta must be at least 1, got 0"):
        draw_boundary_shift(0, np.random.default_rng(0))


@pytest.mark.parametrize(("direction", "signs"), [("both", {-1, 1}), ("dilate", {1}), ("erode", {-1})])
def test_model_draws_one_shift_per_structure(direction: Any, signs: set[int]) -> None:
    masks = np.stack([_square(), np.zeros((40, 40), bool), np.roll(_square(), 12, 0)])
    seen = set()
    for index in range(20):
        draw = partial(case_generator, 0, f"case{index}")
        sizes = [draw_boundary_shift(4, draw(number)) for number in (1, 2, 3)]
        shifts = sizes if direction == "both" else [abs(size) * min(signs) for size in sizes]
        for overlap in (False, True):
            noisy, drawn = BoundaryNoise(4, direction=direction).apply(masks, draw, spacing=None, overlap=overlap)
            np.testing.assert_array_equal(noisy, shift_boundaries(masks, shifts, overlap=overlap))
            assert drawn == {str(number): {"shift": shifts[number - 1], "unit": "voxel"} for number in (1, 3)}
        seen.update(np.sign(shifts).tolist())
    assert seen == signs


def test_model_uses_the_spacing_for_mm_only() -> None:
    draw = partial(case_generator, 0, "a")
    shift = draw_boundary_shift(5, draw(1))
    for noise, spacing in ((BoundaryNoise(unit="mm"), (1.0, 4.0)), (BoundaryNoise(unit="voxel"), None)):
        noisy, drawn = noise.apply(_square()[None], draw, spacing=(1.0, 4.0), overlap=False)
        np.testing.assert_array_equal(noisy[0], shift_boundary(_square(), shift, spacing))
        assert drawn == {"1": {"shift": shift, "unit": noise.unit}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0}, "'boundary': beta must be an integer of at least 1, got 0"),
        ({"beta": 2.5}, "beta must be an integer of at least 1, got 2.5"),
        ({"unit": "cm"}, r"unit must be one of \['voxel', 'mm'\], got 'cm'"),
        ({"direction": "out"}, r"direction must be one of \['both', 'dilate', 'erode'\], got 'out'"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryNoise(**settings)
