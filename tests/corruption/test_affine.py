"""Affine noise against rectangles moved by hand, a pull-back written out, and the public code in loops."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from reference import released_noise

from monai_noisylabel.corruption import AffineNoise, case_generator
from monai_noisylabel.corruption.affine import RELEASED_DIRECTIONS, move, move_as_released


def _box(shape: tuple[int, ...], start: tuple[int, ...], stop: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = True
    return mask


def _ball(size: int, radius: float, axes: int, steps: float | tuple[float, ...] = 1.0) -> np.ndarray:
    grid = np.moveaxis(np.indices((size,) * axes) - (size - 1) / 2, 0, -1) * steps
    return np.linalg.norm(grid, axis=-1) <= radius


def _changed(noisy: np.ndarray, masks: np.ndarray) -> int:
    return int((noisy != masks).any(0).sum())


def test_a_rectangle_along_its_side() -> None:
    # 6 rows x 10 columns, moved by s columns: 2 * 6 * s voxels change, so 0.6 * 60 = 36 of them at s = 3.
    mask = _box((20, 40), (7, 10), (13, 20))
    moved = move(mask[None], 0.0, (0.0, 2.0), 0.6)
    np.testing.assert_array_equal(moved.masks[0], np.roll(mask, 3, 1))
    assert (moved.angle, moved.achieved) == (0.0, 0.6)
    assert moved.length == pytest.approx(3, abs=0.51)  # the nearest voxel is the same from 2.5 to 3.5


def test_single_voxels_make_up_what_a_straight_edge_cannot() -> None:
    # 0.7 * 60 = 42 voxels: 36 at three columns, 48 at four. In raster order the first row gives the 2 voxels
    # that a fourth column changes, as do the second and the third.
    mask = _box((20, 40), (7, 10), (13, 20))
    moved = move(mask[None], 0.0, (0.0, 1.0), 0.7).masks[0]
    expected = np.roll(mask, 3, 1)
    expected[7:10] = np.roll(mask, 4, 1)[7:10]
    np.testing.assert_array_equal(moved, expected)


def test_quarter_turn_in_space() -> None:
    # Voxels of 1 x 2 mm. 12 x 4 voxels are 12 x 8 mm; turned by 90 degrees 8 x 12 mm, 8 x 6 voxels: a cross
    # with 8 x 4 in common, and so (48 - 32) * 2 changed of 48.
    mask = _box((30, 30), (10, 12), (22, 16))
    moved = move(mask[None], 90.0, (1.0, 0.0), 2 / 3, (1.0, 2.0))
    np.testing.assert_array_equal(moved.masks[0], _box((30, 30), (12, 11), (20, 17)))
    assert moved.length < 1


def test_axis_of_rotation_in_3d() -> None:
    # A rod along the first axis, turned by 90 degrees about the third, lies along the second: 9 + 9 - 2 changed.
    rod = _box((15, 15, 15), (3, 7, 7), (12, 8, 8))
    moved = move(rod[None], 90.0, (0.0, 0.0, 1.0), 16 / 9, axis=(0.0, 0.0, 3.0))
    np.testing.assert_array_equal(moved.masks[0], _box((15, 15, 15), (7, 3, 7), (8, 12, 8)))
    still = move(rod[None], 90.0, (1.0, 0.0, 0.0), 2 / 9, axis=(1.0, 0.0, 0.0))
    np.testing.assert_array_equal(still.masks[0], np.roll(rod, 1, 0))


@pytest.mark.parametrize("spacing", [None, (0.8, 0.8, 2.5)])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7, 1.3])
def test_the_ratio_is_exact_and_the_volume_kept(axes: int, spacing: tuple[float, ...] | None, ratio: float) -> None:
    spacing = None if spacing is None else spacing[-axes:]
    generator = np.random.default_rng(7)
    mask = _ball(49, 9.3, axes, spacing or 1.0)
    mask[24:] &= mask[::-1][24:] & (np.indices(mask.shape)[1] > 20)[24:]
    for _ in range(2):
        angle, direction, axis = generator.uniform(-30, 30), generator.normal(size=axes), generator.normal(size=3)
        moved = move(mask[None], angle, direction, ratio, spacing, axis=axis if axes == 3 else None)
        assert _changed(moved.masks, mask[None]) == int(ratio * mask.sum())
        assert moved.achieved == int(ratio * mask.sum()) / mask.sum()
        assert moved.masks.sum() == pytest.approx(mask.sum(), rel=0.04)


def test_a_rotation_that_changes_too_much_is_reduced() -> None:
    # A rod of 3 x 41, turned by 90 degrees, changes 2 * (123 - 9) of 123 voxels.
    rod = _box((60, 60), (28, 10), (31, 51))
    moved = move(rod[None], -90.0, (1.0, 0.0), 0.5)
    assert moved.length == 0
    assert -90 < moved.angle < 0
    assert _changed(moved.masks, rod[None]) == int(0.5 * rod.sum())


def test_a_ratio_of_less_than_a_voxel_changes_nothing() -> None:
    mask = _ball(20, 5, 2)[None]
    np.testing.assert_array_equal(move(mask, 25.0, (1.0, 1.0), 0.5 / mask.sum()).masks, mask)


def test_the_shift_goes_where_it_is_told() -> None:
    mask = _ball(80, 10, 2)
    centre = np.argwhere(mask).mean(0)
    for direction in ((-3.0, 1.0), (1.0, 0.5), (0.0, -1.0)):
        moved = move(mask[None], 0.0, direction, 0.7)
        shift = np.argwhere(moved.masks[0]).mean(0) - centre
        np.testing.assert_allclose(shift, moved.length * np.array(direction) / np.linalg.norm(direction), atol=0.3)


def test_spacing_turns_and_shifts_in_mm() -> None:
    # 4 mm voxels along the second axis; 0.5 of a square of 16 x 4 voxels: 4 mm, so a quarter of its width.
    mask = _box((40, 20), (12, 8), (28, 12))
    moved = move(mask[None], 0.0, (0.0, 1.0), 0.5, (1.0, 4.0))
    np.testing.assert_array_equal(moved.masks[0], np.roll(mask, 1, 1))
    assert 2 <= moved.length <= 6


def test_structures_of_a_label_move_together() -> None:
    core = _ball(64, 6, 2)
    masks = np.stack([_ball(64, 12, 2) & ~core, core])
    noisy, drawn = AffineNoise(0.7).apply(masks, partial(case_generator, 0, "a"), spacing=None, overlap=False)
    assert noisy.sum(0).max() == 1
    assert _changed(noisy, masks) == int(0.7 * masks.sum())
    assert drawn["1"] == drawn["2"]
    centres = [np.argwhere(mask).mean(0) for mask in noisy]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.3)
    # The label changes where a structure takes the other's place, too: more voxels than the foreground alone.
    assert _changed(noisy, masks) > (noisy.any(0) ^ masks.any(0)).sum()


def test_overlapping_structures_move_each_by_its_own_draw() -> None:
    masks = np.stack([_ball(64, 12, 2), _ball(64, 6, 2)])
    noisy, drawn = AffineNoise(0.5).apply(masks, partial(case_generator, 0, "a"), spacing=None, overlap=True)
    for mask, before in zip(noisy, masks, strict=True):
        assert (mask ^ before).sum() == int(0.5 * before.sum())
    assert drawn["1"]["angle"] != drawn["2"]["angle"]
    alone, _ = AffineNoise(0.5).apply(masks[:1], partial(case_generator, 0, "a"), spacing=None, overlap=True)
    np.testing.assert_array_equal(alone[0], noisy[0])


@pytest.mark.parametrize("axes", [2, 3])
def test_the_record_tells_the_movement(axes: int) -> None:
    masks, spacing = _ball(24, 6, axes)[None], (0.8, 1.1, 2.0)[:axes]
    noisy, drawn = AffineNoise(0.5).apply(masks, partial(case_generator, 0, "a"), spacing=spacing, overlap=False)
    entry: dict[str, Any] = dict(drawn["1"])
    moved = move(masks, entry["angle"], entry["direction"], 0.5, spacing, axis=entry.get("axis"))
    np.testing.assert_array_equal(noisy, moved.masks)
    assert entry["length"] == moved.length
    assert (entry["unit"], "axis" in entry) == ("mm", axes == 3)


def test_what_leaves_the_image_is_lost_but_never_all_of_it() -> None:
    # In a corner, moved outwards, the ratio of 1.8 is out of reach: at most the whole structure is lost.
    mask = _box((30, 30), (0, 0), (6, 6))[None]
    moved = move(mask, 0.0, (-1.0, -1.0), 1.8)
    assert 0 < moved.masks.sum() < 36
    assert moved.achieved == pytest.approx(_changed(moved.masks, mask) / 36)
    partly = move(mask, 0.0, (-1.0, 0.0), 0.5)
    np.testing.assert_array_equal(partly.masks[0], _box((30, 30), (0, 0), (3, 6)))


def test_draws_of_the_model_are_uniform() -> None:
    # 240 directions into eight sectors of 30 each, standard deviation sqrt(240 * 1/8 * 7/8) = 5.1; 4.5 of them.
    # Angles from U(-30, 30): mean 0 with standard deviation 17.3 / sqrt(240) = 1.1.
    mask = _ball(24, 4, 2)[None]
    draws = [_drawn(AffineNoise(0.5), mask, index) for index in range(240)]
    heading = np.array([drawn["direction"] for drawn in draws])
    sectors = np.floor(np.arctan2(heading[:, 1], heading[:, 0]) / (np.pi / 4)).astype(int)
    np.testing.assert_allclose(np.linalg.norm(heading, axis=1), 1)
    assert np.abs(np.bincount(sectors + 4, minlength=8) - 30).max() < 23
    angles = np.array([drawn["angle"] for drawn in draws])
    assert abs(angles.mean()) < 5
    assert 29 < np.abs(angles).max() <= 30


def test_axes_of_3d_rotations_are_uniform_on_the_sphere() -> None:
    # Of 150 unit vectors each component has mean 0 +- 0.047 and mean square 1/3 +- 0.024; 4.5 of these.
    mask = _ball(8, 1.5, 3)[None]
    drawn = [_drawn(AffineNoise(0.5), mask, index) for index in range(150)]
    for key in ("axis", "direction"):
        vectors = np.array([entry[key] for entry in drawn])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
        np.testing.assert_allclose(vectors.mean(0), 0, atol=0.21)
        np.testing.assert_allclose((vectors**2).mean(0), 1 / 3, atol=0.11)


def test_released_draws_go_down_and_right_only() -> None:
    # Of 400 draws a quarter goes down, a quarter right, half diagonally; standard deviations 8.7 and 10; 4.5.
    mask = _ball(48, 7, 2)[None]
    shifts = np.array([_drawn(AffineNoise(0.7, released=True), mask, index)["shift"] for index in range(400)])
    assert (shifts >= 0).all()
    counts = [(shifts[:, 1] == 0).sum(), (shifts[:, 0] == 0).sum(), (shifts[:, 0] == shifts[:, 1]).sum()]
    np.testing.assert_allclose(counts, [100, 100, 200], atol=45)


def test_labels_go_every_way_but_those_of_the_public_code() -> None:
    # Where the centre of a ball goes, by eight sectors of the compass; the ball looks alike however it is turned. The
    # default fills them evenly: of 240, 30 +- 5.1. Of the released eight directions only the absolute values count:
    # down, right and between them; 60, 60 and 120 +- 7.7.
    mask = _ball(48, 9, 2)[None]
    centre = np.argwhere(mask[0]).mean(0)
    histogram = {}
    for released in (False, True):
        model = AffineNoise(0.7, released=released)
        draws = [partial(case_generator, 0, f"case{index}") for index in range(240)]
        moved = [model.apply(mask, draw, spacing=None, overlap=False)[0][0] for draw in draws]
        down, right = np.transpose([np.argwhere(one).mean(0) - centre for one in moved])
        assert (np.hypot(down, right) > 1).all()
        eighths = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 8  # 0 right, 2 down, 4 left, 6 up
        histogram[released] = np.bincount(eighths, minlength=8)
    np.testing.assert_allclose(histogram[False], 30, atol=23)
    np.testing.assert_allclose(histogram[True][:3], [60, 120, 60], atol=35)
    assert not histogram[True][3:].any()


def _drawn(model: AffineNoise, masks: np.ndarray, index: int) -> Mapping[str, Any]:
    draw = partial(case_generator, 0, f"case{index}")
    return model.apply(masks, draw, spacing=None, overlap=False)[1]["1"]


def test_released_equals_the_loops_and_shrinks() -> None:
    generator = np.random.default_rng(0)
    mask = _ball(36, 8.4, 2) & (np.indices((36, 36))[0] > 14)
    for direction in RELEASED_DIRECTIONS[:4]:
        for ratio in (0.5, 0.7):
            angle = float(generator.uniform(-30, 30))
            moved, shift = move_as_released(mask[None], angle, direction, ratio)
            np.testing.assert_array_equal(moved[0], released_noise.affine(mask, angle, direction, ratio))
            assert moved.sum() < 0.95 * mask.sum()
            assert shift[0] >= 0 <= shift[1]


def test_released_bisection_goes_to_100_and_stops_at_the_ratio() -> None:
    # A square of 8 that moves by 2 changes 2 * 8 * 2 of its 64 pixels: found at the fifth step, and no more are taken.
    square = _box((40, 40), (10, 10), (18, 18))
    moved, shift = move_as_released(square[None], 0.0, (1, 0), 0.5)
    assert shift == (2, 0)
    np.testing.assert_array_equal(moved[0], released_noise.affine(square, 0.0, (1, 0), 0.5))
    # 60 wide, it moves by 1.5 / 2 * 80 = 60 of its height; less than 50 is no limit.
    wide = _box((160, 70), (5, 5), (85, 65))
    moved, shift = move_as_released(wide[None], 0.0, (1, 0), 1.5)
    assert shift == (60, 0)
    np.testing.assert_array_equal(moved[0], released_noise.affine(wide, 0.0, (1, 0), 1.5))


def test_a_structure_that_moves_out_with_a_larger_one_keeps_its_deepest_voxel() -> None:
    masks = np.stack([_box((30, 30), (2, 8), (16, 22)), _box((30, 30), (0, 12), (1, 15))])
    moved = move(masks, 0.0, (-1.0, 0.0), 0.5)
    assert moved.length > 1
    assert np.argwhere(moved.masks[1]).tolist() == [[0, 12]]
    assert moved.masks.sum(0).max() == 1


def test_released_structure_that_is_lost_keeps_its_deepest_pixel() -> None:
    # Two pixels turned by 30 degrees have no pixel of full weight left.
    mask = _box((12, 12), (2, 2), (3, 4))[None]
    moved, _ = move_as_released(mask, 30.0, (1, 0), 0.5)
    assert np.argwhere(moved).tolist() == [[0, 2, 2]]


def test_an_empty_case_stays_empty() -> None:
    nothing = np.zeros((2, 8, 8), bool)
    assert not move(nothing, 10.0, (1.0, 0.0), 0.5).masks.any()
    assert move_as_released(nothing, 10.0, (1, 0), 0.5)[1] == (0, 0)
    for released in (False, True):
        noisy, drawn = AffineNoise(released=released).apply(
            nothing, partial(case_generator, 0, "a"), spacing=None, overlap=False
        )
        assert not noisy.any()
        assert drawn == {}


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8), {}, r"masks must be \(K, H, W\) or \(K, H, W, D\), got shape \(8, 8\)"),
        ((1, 8, 8), {"ratio": 0.0}, "ratio must be above 0 and at most 2, got 0.0"),
        ((1, 8, 8), {"ratio": 2.1}, "ratio must be above 0 and at most 2, got 2.1"),
        ((1, 8, 8), {"direction": (0.0, 0.0)}, "direction must be 2 numbers that are not all 0"),
        ((1, 8, 8), {"direction": (1.0,)}, "direction must be 2 numbers"),
        ((1, 8, 8, 8), {"direction": (1.0, 0.0, 0.0)}, "axis must be 3 numbers that are not all 0"),
        ((2, 8, 8), {}, "masks that move together must not overlap; move overlapping structures one by one"),
        ((1, 8, 8), {"spacing": (1.0,)}, "spacing must be 2 positive numbers"),
    ],
)
def test_errors(shape: tuple[int, ...], options: dict, message: str) -> None:
    arguments = {"angle": 0.0, "direction": (1.0, 0.0), "ratio": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        move(np.ones(shape, bool), **arguments)


def test_released_is_2d() -> None:
    with pytest.raises(ValueError, match=r"2D masks \(K, H, W\) only, got \(1, 8, 8, 8\); leave 'released' out"):
        move_as_released(np.ones((1, 8, 8, 8), bool), 10.0, (1, 0), 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0}, "'affine': beta must be a number above 0 and at most 2, got 0"),
        ({"beta": 2.5}, "beta must be a number above 0 and at most 2, got 2.5"),
        ({"max_angle": -1}, "max_angle must be a number from 0 to 180, got -1"),
        ({"released": "no"}, "released must be true or false, got 'no'"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffineNoise(**settings)
