"""The nearest voxels: both ways to measure, ties, and windows that have to grow."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.corruption import nearest
from monai_noisylabel.corruption.nearest import nearest_voxels, smallest, unit_ball_volume


def _whole(mask: np.ndarray, count: int, steps: np.ndarray, inwards: bool) -> np.ndarray:
    window, chosen = nearest_voxels(mask, mask if inwards else ~mask, count, steps, inwards=inwards)
    result = np.zeros_like(mask)
    result[window] = chosen
    return result


@pytest.mark.parametrize("inwards", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_short_distances_equal_the_distance_transform(
    axes: int, inwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(axes)
    for _ in range(10):
        mask = np.pad(np.kron(generator.random((4,) * axes) < 0.4, np.ones((3,) * axes)).astype(bool), 2)
        count = max(1, int(0.6 * mask.sum()))
        if not mask.any():
            continue
        short = _whole(mask, count, np.ones(axes), inwards)
        with monkeypatch.context() as patch:
            patch.setattr(nearest, "SHORT", -1)
            np.testing.assert_array_equal(short, _whole(mask, count, np.ones(axes), inwards))


def test_distances_of_a_hundred_voxels_do_not_overflow() -> None:
    # One voxel in the middle of a line, 98 to each side: the nearest 190 end 95 away.
    line = np.zeros(197, bool)
    line[98] = True
    assert np.flatnonzero(_whole(line, 190, np.ones(1), False)).tolist() == [*range(3, 98), *range(99, 194)]


def test_only_candidates_are_chosen_and_the_window_grows_until_it_holds_enough() -> None:
    # The near side is blocked: what is left lies 30 voxels away.
    mask = np.zeros((9, 80), bool)
    mask[4, 4] = True
    candidates = np.zeros_like(mask)
    candidates[:, 35:] = True
    window, chosen = nearest_voxels(mask, candidates, 9, np.ones(2))
    assert window[1].stop >= 36
    result = np.zeros_like(mask)
    result[window] = chosen
    np.testing.assert_array_equal(result[:, 35], np.ones(9, bool))
    assert result.sum() == 9


def test_all_candidates_where_there_are_no_more() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    window, chosen = nearest_voxels(mask, ~mask, 100, np.ones(2))
    assert window == (slice(0, 5), slice(0, 5))
    np.testing.assert_array_equal(chosen, ~mask)


def test_the_window_is_small() -> None:
    # A ball of radius 6 that doubles grows by 6 * (2 ** (1/3) - 1) = 1.56 voxels.
    mask = np.linalg.norm(np.indices((80, 80, 80)) - 40, axis=0) <= 6
    window, _ = nearest_voxels(mask, ~mask, int(mask.sum()), np.ones(3))
    assert window == (slice(30, 51),) * 3  # ceil(1.56) + 2 beyond 34..46


def test_smallest_takes_ties_in_raster_order_and_leaves_its_input_alone() -> None:
    values = np.array([[2, 1], [1, 1]])
    candidates = np.array([[True, True], [True, True]])
    assert smallest(values, candidates, 2).tolist() == [[False, True], [True, False]]
    everything = smallest(values, candidates, 9)
    everything[:] = False
    assert candidates.all()


def test_unit_ball() -> None:
    assert unit_ball_volume(1) == pytest.approx(2)
    assert unit_ball_volume(2) == pytest.approx(np.pi)
    assert unit_ball_volume(3) == pytest.approx(4 / 3 * np.pi)
