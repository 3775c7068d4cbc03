"""Relative boundary noise against hand-made squares, an exhaustive distance search and the iterated public way."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from reference import released_noise

from monai_noisylabel.corruption import RelativeBoundaryNoise, case_generator
from monai_noisylabel.corruption.relative_boundary import change_volume, change_volumes


def _square(size: int = 40, start: int = 15, stop: int = 25) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:stop, start:stop] = True
    return mask


def _blocks(generator: np.random.Generator, axes: int, margin: int, share: float = 0.4) -> np.ndarray:
    while not (coarse := generator.random((3,) * axes) < share).any():
        pass
    return np.pad(np.kron(coarse, np.ones((3,) * axes)).astype(bool), margin)


def _exhaustive(mask: np.ndarray, ratio: float, spacing: np.ndarray) -> np.ndarray:
    """The definition by search over all pairs of voxels, nearest first, then raster order."""
    grid = np.indices(mask.shape).reshape(mask.ndim, -1).T * spacing
    inside = mask.ravel()
    seeds, candidates = (inside, ~inside) if ratio > 0 else (~inside, inside)
    count = min(int(abs(ratio) * inside.sum()), candidates.sum() - (ratio < 0))
    distance = np.linalg.norm(grid[candidates][:, None] - grid[seeds][None], axis=-1).min(1)
    order = np.argsort(np.round(distance, 9), kind="stable")[:count]
    result = inside.copy()
    result[np.flatnonzero(candidates)[order]] = ratio > 0
    return result.reshape(mask.shape)


def test_dilation_of_a_square() -> None:
    # 10 x 10, 70 voxels to add: 40 at distance 1 (the faces), 4 at sqrt(2) (the corners), and of the 40 at
    # distance 2 the first 26 in raster order: 10 above, then left and right of the rows 15 to 22.
    grown = change_volume(_square(), 0.7)
    expected = np.zeros((40, 40), bool)
    expected[14:26, 14:26] = True
    expected[13, 15:25] = True
    expected[15:23, 13] = expected[15:23, 26] = True
    np.testing.assert_array_equal(grown, expected)


def test_erosion_of_a_square() -> None:
    # 10 x 10, 50 voxels to remove: the 36 of the outer ring, and 14 of the 28 in the next: its row 16 (8), then
    # left and right of the rows 17 to 19.
    shrunk = change_volume(_square(), -0.5)
    expected = np.zeros((40, 40), bool)
    expected[17:24, 16:24] = True
    expected[17:20, [16, 23]] = False
    np.testing.assert_array_equal(shrunk, expected)
    assert shrunk.sum() == 50


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0), (0.8, 1.3, 2.5)])
@pytest.mark.parametrize("axes", [2, 3])
def test_against_the_exhaustive_search(axes: int, spacing: tuple[float, ...] | None) -> None:
    generator = np.random.default_rng(axes)
    steps = np.ones(axes) if spacing is None else np.asarray(spacing[:axes])
    for _ in range(3):
        mask = _blocks(generator, axes, int(generator.integers(0, 3)), 0.25)
        for ratio in (0.1, 0.7, 3.0, -0.1, -0.7):
            if ratio > 0 or not mask.all():
                changed = change_volume(mask, ratio, None if spacing is None else spacing[:axes])
                np.testing.assert_array_equal(changed, _exhaustive(mask, ratio, steps))


def test_a_structure_in_a_corner_grows_into_the_image_that_is_left() -> None:
    # The ball's margin would do in free space only: here the growth has a quarter of the directions.
    mask = np.zeros((60, 60), bool)
    mask[:12, :12] = True
    np.testing.assert_array_equal(change_volume(mask, 6.0), _exhaustive(mask, 6.0, np.ones(2)))


def test_volumes_are_exact_and_boundaries_are_nested() -> None:
    mask = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0) <= 9.3
    volume = int(mask.sum())
    smaller = mask & False
    for ratio in (-0.9, -0.5, -0.25, 0.0, 0.25, 0.5, 0.9):
        changed = change_volume(mask, ratio)
        assert changed.sum() == volume + (int(ratio * volume) if ratio > 0 else -int(-ratio * volume))
        assert (smaller <= changed).all()
        smaller = changed


def test_all_free_voxels_where_there_are_too_few() -> None:
    assert change_volume(_square(12, 1, 11), 0.7).all()


def test_erosion_leaves_one_voxel() -> None:
    for ratio in (-1.0, -5.0):
        left = change_volume(_square(), ratio)
        assert np.argwhere(left).tolist() == [[20, 20]]  # the last in raster order of the four deepest
    single = np.zeros((5, 5, 5), bool)
    single[0, 2, 4] = True
    np.testing.assert_array_equal(change_volume(single, -0.9), single)


def test_the_border_of_the_image_is_no_boundary_unless_there_is_no_other() -> None:
    mask = np.zeros((10, 8), bool)
    mask[:6] = True
    assert np.flatnonzero(change_volume(mask, -0.5).all(1)).tolist() == [0, 1, 2]
    # 6 x 6 full: the ring of 20 goes first.
    assert np.argwhere(change_volume(np.ones((6, 6), bool), -20 / 36)).min(0).tolist() == [1, 1]


def test_structures_meet_their_volumes_whatever_their_neighbours_do() -> None:
    generator = np.random.default_rng(3)
    for axes in (2, 3):
        for _ in range(15):
            label = np.pad(np.kron(generator.integers(0, 4, (3,) * axes), np.ones((4,) * axes)), 6)
            masks = np.stack([label == value for value in (1, 2, 3)])
            ratios = generator.choice([-0.7, 0.7], 3).tolist()
            changed = change_volumes(masks, ratios)
            assert changed.sum(0).max() <= 1
            for before, after, ratio in zip(masks, changed, ratios, strict=True):
                volume = int(before.sum())
                assert after.sum() == volume + np.sign(ratio) * int(0.7 * volume)


def test_inner_structures_are_settled_first() -> None:
    # A core of 4 x 4 in the middle of a 10 x 10 frame. The core, structure 2, takes its int(0.7 * 16) = 11 voxels
    # from the frame as if it were alone; the frame (84, + 58) regains them outside its old outline.
    core = _square(40, 18, 22)
    frame = _square() & ~core
    grown = change_volumes(np.stack([frame, core]), [0.7, 0.7])
    np.testing.assert_array_equal(grown[1], change_volume(core, 0.7))
    assert grown[0].sum() == 84 + 58
    assert (frame & ~grown[1] <= grown[0]).all()
    assert (grown[0] & ~frame & ~core).sum() == 58 + 11


def test_an_unsettled_structure_regains_what_it_lost_nearest_first() -> None:
    # Columns 4-6 and 7-9 of 20. The second takes 6 and 10; the first, unchanged in volume, keeps 4, 5 and of the
    # two free columns at distance 1, 3 and 7, gets 3: column 7 is the second's.
    masks = np.zeros((2, 1, 20), bool)
    masks[0, 0, 4:7] = masks[1, 0, 7:10] = True
    first, second = change_volumes(masks, [0.0, 0.7])[:, 0]
    assert np.flatnonzero(second).tolist() == [6, 7, 8, 9, 10]
    assert np.flatnonzero(first).tolist() == [3, 4, 5]


def test_a_structure_that_shrinks_does_so_from_what_a_later_one_left() -> None:
    # Columns 4-11 and 12-15. The second takes 11, 16 and 10; of 4-9 the first loses its two ends for its volume of 4.
    masks = np.zeros((2, 1, 20), bool)
    masks[0, 0, 4:12] = masks[1, 0, 12:16] = True
    first, second = change_volumes(masks, [-0.5, 0.75])[:, 0]
    assert np.flatnonzero(second).tolist() == list(range(10, 17))
    assert np.flatnonzero(first).tolist() == [5, 6, 7, 8]


def test_a_structure_without_room_keeps_one_voxel() -> None:
    # The second structure would take the whole image.
    masks = np.zeros((2, 3, 5), bool)
    masks[0, :, 0] = masks[1, :, 1:] = True
    crowded = change_volumes(masks, [0.7, 0.7])
    assert crowded.sum((1, 2)).tolist() == [1, 14]
    assert crowded[0, 0, 0]


def test_overlapping_structures_are_changed_by_themselves() -> None:
    lung, clavicle = _square(40, 10, 30), _square(40, 14, 20)
    changed = change_volumes(np.stack([lung, clavicle]), [-0.5, 0.7], overlap=True)
    np.testing.assert_array_equal(changed[0], change_volume(lung, -0.5))
    np.testing.assert_array_equal(changed[1], change_volume(clavicle, 0.7))


@pytest.mark.parametrize("axes", [2, 3])
def test_released_equals_the_iterated_steps(axes: int) -> None:
    generator = np.random.default_rng(axes)
    for _ in range(12):
        mask = _blocks(generator, axes, int(generator.integers(0, 4)))
        if mask.all():
            continue
        for ratio in (0.1, 0.5, 0.7, 3.0, -0.1, -0.5, -0.7, -0.95):
            released = change_volume(mask, ratio, released=True)
            np.testing.assert_array_equal(released, released_noise.relative_boundary(mask, ratio))


def test_released_grows_diamonds_and_misses_the_volume() -> None:
    # One voxel, + 5: diamonds hold 1, 5, 13 voxels; 5 is nearer to 6 than 13.
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    assert change_volume(point, 5.0, released=True).sum() == 5
    assert change_volume(point, 5.0).sum() == 6


def test_released_structures_are_painted_in_their_order() -> None:
    masks = np.stack([_square(40, 10, 18), np.roll(_square(40, 10, 18), 8, 1)])
    painted = change_volumes(masks, [0.7, 0.7], released=True)
    np.testing.assert_array_equal(painted[1], change_volume(masks[1], 0.7, released=True))
    np.testing.assert_array_equal(painted[0], change_volume(masks[0], 0.7, released=True) & ~painted[1])


@pytest.mark.parametrize(("direction", "shares"), [("both", (0.4, 0.6)), ("dilate", (1, 1)), ("erode", (0, 0))])
def test_direction_of_the_model(direction: Any, shares: tuple[float, float]) -> None:
    # 300 fair draws: standard deviation sqrt(0.25 / 300) = 0.029, bounds of 3.4 of them.
    model = RelativeBoundaryNoise(beta=0.5, direction=direction)
    masks = _square(20, 8, 12)[None]
    outwards = []
    for index in range(300):
        noisy, drawn = model.apply(masks, partial(case_generator, 0, f"case{index}"), spacing=None, overlap=False)
        outwards.append(noisy.sum() == 16 + 8)
        assert outwards[-1] or noisy.sum() == 16 - 8
        assert drawn == {"1": {"ratio": 0.5 if outwards[-1] else -0.5, "achieved": 0.5 if outwards[-1] else -0.5}}
    assert shares[0] <= np.mean(outwards) <= shares[1]


def test_model_hands_on_its_settings() -> None:
    masks = np.stack([_square(40, 10, 18), _square(40, 14, 24)])
    draw = partial(case_generator, 1, "a")
    ratios = [0.7 if draw(number).random() < 0.5 else -0.7 for number in (1, 2)]
    noisy, drawn = RelativeBoundaryNoise(released=True).apply(masks, draw, spacing=None, overlap=True)
    np.testing.assert_array_equal(noisy, change_volumes(masks, ratios, overlap=True, released=True))
    assert [drawn[number]["ratio"] for number in ("1", "2")] == ratios
    tall, _ = RelativeBoundaryNoise(direction="dilate").apply(masks, draw, spacing=(1.0, 9.0), overlap=True)
    np.testing.assert_array_equal(tall, change_volumes(masks, [0.7, 0.7], (1.0, 9.0), overlap=True))


@pytest.mark.parametrize(
    ("ratio", "spacing", "message"),
    [
        (float("nan"), None, "ratio must be finite, got nan"),
        (float("inf"), None, "ratio must be finite, got inf"),
        (0.5, (1.0,), r"spacing must be 2 positive numbers, one per axis, got \(1.0,\)"),
    ],
)
def test_errors(ratio: float, spacing: tuple[float, ...] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_volume(_square(), ratio, spacing)
    with pytest.raises(ValueError, match=message):
        change_volumes(_square()[None], [ratio], spacing)


def test_one_ratio_per_structure() -> None:
    with pytest.raises(ValueError, match="1 structures need as many ratios, got 2"):
        change_volumes(_square()[None], [0.5, 0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0}, "'relative_boundary': beta must be a number above 0, got 0"),
        ({"beta": "much"}, "beta must be a number above 0, got 'much'"),
        ({"direction": "up"}, r"direction must be one of \['both', 'dilate', 'erode'\], got 'up'"),
        ({"released": 1}, "released must be true or false, got 1"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelativeBoundaryNoise(**settings)
