"""Confusion of neighbouring classes: straight borders in closed form, and an exhaustive distance search."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from monai_noisylabel.corruption import ConfusionNoise, case_generator
from monai_noisylabel.corruption.confusion import confuse, neighbouring_pairs


def _halves(axes: int, size: int = 12) -> np.ndarray:
    """Two structures that share a flat border across the first axis, between 5 and 6."""
    masks = np.zeros((2, *(size,) * axes), bool)
    masks[0, 1:6] = masks[1, 6:11] = True
    return masks


def _apply(masks: np.ndarray, case: str = "a", seed: int = 0, **settings: Any) -> tuple[np.ndarray, dict]:
    noise = ConfusionNoise(**settings)
    return noise.apply(masks, partial(case_generator, seed, case), spacing=None, overlap=False)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("depth", "spacing", "layers"),
    [(2, None, 2), (2.9, None, 2), (3, None, 3), (4, (2.0, 0.5, 0.5), 2), (3.9, (2.0, 0.5, 0.5), 1), (0.9, None, 0)],
)
def test_flat_border_moves_by_the_depth(
    axes: int, depth: float, spacing: tuple[float, ...] | None, layers: int
) -> None:
    # The layers of the source are 1, 2, 3 steps away from the voxels of the target that touch it.
    masks = _halves(axes)
    steps = spacing and spacing[:axes]
    for source, target, border in ((1, 2, 6 - layers), (2, 1, 6 + layers)):
        noisy = confuse(masks, source, target, depth, steps)
        expected = np.zeros_like(masks)
        expected[0, 1:border] = expected[1, border:11] = True
        np.testing.assert_array_equal(noisy, expected)


def test_depth_of_whole_steps_survives_rounding() -> None:
    # 3 * 0.1 is 0.30000000000000004 in binary, more than 0.3, and still three voxels.
    noisy = confuse(_halves(2), 1, 2, 0.3, (0.1, 0.1))
    assert np.flatnonzero(noisy[0].any(1)).tolist() == [1, 2]


@pytest.mark.parametrize("spacing", [None, (0.8, 0.8, 3.0)])
@pytest.mark.parametrize("depth", [1.0, 2.0])
def test_equals_the_exhaustive_search(depth: float, spacing: tuple[float, ...] | None) -> None:
    label = np.kron(np.random.default_rng(0).integers(0, 4, (3, 3, 2)), np.ones((3, 3, 3), int))
    masks = np.stack([label == value for value in (1, 2, 3)])
    steps = np.ones(3) if spacing is None else np.array(spacing)
    padded = np.pad(label, 1)
    near_source = np.any([np.roll(padded == 1, shift, axis) for axis in range(3) for shift in (-1, 1)], 0)
    border = np.argwhere((label == 2) & near_source[1:-1, 1:-1, 1:-1])
    distance = np.linalg.norm((np.indices(label.shape)[..., None] - border.T[:, None, None, None]).T * steps, axis=-1)
    band = (label == 1) & (depth + 1e-9 >= distance.min(0).T)
    assert band.any()
    assert (band != (label == 1)).any()
    expected = np.stack([masks[0] & ~band, masks[1] | band, masks[2]])
    np.testing.assert_array_equal(confuse(masks, 1, 2, depth, spacing), expected)


def test_parts_away_from_the_shared_border_stay() -> None:
    # A second part of the source, two voxels of background away from the target, is within the depth of the target
    # but not of its voxels that touch the source.
    masks = np.zeros((2, 3, 20), bool)
    masks[0, :, :4] = masks[1, :, 4:12] = masks[0, :, 14:] = True
    noisy = confuse(masks, 1, 2, 3)
    assert np.flatnonzero(noisy[0, 0]).tolist() == [0, *range(14, 20)]


@pytest.mark.parametrize("depth", [5, 7, 1000])
def test_source_keeps_its_voxels_farthest_from_the_border(depth: float) -> None:
    noisy = confuse(_halves(3), 1, 2, depth)
    assert np.flatnonzero(noisy[0].any((1, 2))).tolist() == [1]
    assert noisy[0, 1].all()


def test_single_voxel_is_never_taken() -> None:
    masks = np.array([[[1, 0]], [[0, 1]]], bool)
    np.testing.assert_array_equal(confuse(masks, 1, 2, 3), masks)


def test_structures_that_do_not_touch_or_are_absent_stay() -> None:
    # They meet at a corner only, which is no face.
    masks = np.zeros((3, 6, 6), bool)
    masks[0, :3, :3] = masks[1, 3:, 3:] = True
    assert neighbouring_pairs(masks) == []
    for source, target in ((1, 2), (2, 1), (3, 1), (1, 3)):
        np.testing.assert_array_equal(confuse(masks, source, target, 3), masks)
    noisy, drawn = _apply(masks)
    np.testing.assert_array_equal(noisy, masks)
    assert noisy is not masks
    assert drawn == {"1": {}, "2": {}}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pairs_touch_along_any_axis(axis: int) -> None:
    # Order along the axis 3, 1, background, 2, 4: only 3 and 1, and 2 and 4 touch.
    label = np.moveaxis(np.broadcast_to(np.array([3, 1, 0, 2, 4])[:, None, None], (5, 2, 2)), 0, axis)
    masks = np.stack([label == value for value in (1, 2, 3, 4)])
    assert neighbouring_pairs(masks) == [(1, 3), (2, 4)]


def test_pairs_are_sorted() -> None:
    # Which pair a draw means depends on their order.
    label = np.array([[6, 1, 5, 2], [4, 3, 1, 6], [2, 6, 4, 5]])
    pairs = neighbouring_pairs(np.stack([label == value for value in range(1, 7)]))
    assert len(pairs) == 12
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("axes", [2, 3])
def test_only_the_drawn_pair_changes(axes: int) -> None:
    # 1, 2, 3 and 4 lie in a row; each of the three pairs is drawn in both directions sometimes.
    masks = np.zeros((5, *(20,) * axes), bool)
    for number in range(4):
        masks[number, 2 + 4 * number : 6 + 4 * number, 3:17] = True
    before = masks.copy()
    seen = set()
    for index in range(80):
        noisy, drawn = _apply(masks, f"case{index}", depth=2)
        ((source, given),) = [(int(key), what) for key, what in drawn.items() if "given_to" in what]
        target = given["given_to"]
        seen.add((source, target))
        assert drawn[str(target)] == {"taken_from": source, "depth": 2, "unit": "voxel", "voxels": given["voxels"]}
        assert (noisy[source - 1] < masks[source - 1]).sum() == given["voxels"] == 2 * 14 * 20 ** (axes - 2)
        np.testing.assert_array_equal(noisy[[source - 1, target - 1]].sum(0), masks[[source - 1, target - 1]].sum(0))
        others = [number for number in range(5) if number + 1 not in (source, target)]
        np.testing.assert_array_equal(noisy[others], masks[others])
    assert seen == {(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3)}
    np.testing.assert_array_equal(masks, before)


def test_unit_mm_uses_the_spacing_and_voxels_do_not() -> None:
    draw = partial(case_generator, 0, "a")
    lost = {}
    for unit in ("voxel", "mm"):
        _, drawn = ConfusionNoise(4, unit).apply(_halves(2), draw, spacing=(2.0, 1.0), overlap=False)
        lost[unit] = drawn["1"]["voxels"] // 12
    assert lost == {"voxel": 4, "mm": 2}


def test_depends_on_seed_and_case_alone() -> None:
    noisy, drawn = _apply(_halves(2))
    again, drawn_again = _apply(_halves(2))
    np.testing.assert_array_equal(noisy, again)
    assert drawn == drawn_again
    directions = [{"given_to" in _apply(_halves(2), case, seed)[1]["1"] for case in "abcdefgh"} for seed in (0, 1)]
    assert directions == [{True, False}] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "Noise model 'confusion': depth must be a number above 0, got 0"),
        ({"depth": "3"}, "depth must be a number above 0, got '3'"),
        ({"unit": "cm"}, r"Noise model 'confusion': unit must be one of \['voxel', 'mm'\], got 'cm'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionNoise(**settings)


@pytest.mark.parametrize(
    ("unit", "overlap", "message"),
    [("mm", False, "'confusion' with unit 'mm' needs the spacing"), ("voxel", True, "needs a multi-class label")],
)
def test_labels_that_do_not_fit_are_refused(unit: Any, overlap: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionNoise(unit=unit).apply(_halves(2), partial(case_generator, 0, "a"), spacing=None, overlap=overlap)


@pytest.mark.parametrize(
    ("source", "target", "depth", "spacing", "message"),
    [
        (1, 1, 3, None, "source and target must be two of the structures 1 to 2, got 1, 1"),
        (0, 1, 3, None, "two of the structures 1 to 2, got 0, 1"),
        (1, 3, 3, None, "two of the structures 1 to 2, got 1, 3"),
        (1, 2, 0, None, "depth must be above 0 and finite, got 0"),
        (1, 2, float("inf"), None, "depth must be above 0 and finite, got inf"),
        (1, 2, 3, (1.0, 1.0, 1.0), "spacing must be 2 positive numbers"),
    ],
)
def test_errors(source: int, target: int, depth: float, spacing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confuse(_halves(2), source, target, depth, spacing)
