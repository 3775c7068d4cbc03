"""Rigid motion on the grid against a pull-back written out voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from monai_noisylabel.corruption.rigid_motion import RigidMotion, met, shifted_until


def _label(shape: tuple[int, ...], seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 3, tuple(size // 3 for size in shape))
    label = np.kron(coarse, np.ones((3,) * len(shape), int))
    return np.stack([label == value for value in (1, 2)])


def _pulled_back(masks: np.ndarray, angle: float, shift: np.ndarray, steps: np.ndarray, axis: np.ndarray) -> np.ndarray:
    axes = masks.ndim - 1
    rotation = Rotation.from_rotvec(np.radians(angle) * axis).as_matrix()[:axes, :axes]
    label = masks[0] + 2 * masks[1]
    centre = np.argwhere(label).mean(0) * steps
    moved = np.zeros_like(label)
    for voxel in np.ndindex(label.shape):
        source = (rotation.T @ (np.array(voxel) * steps - centre - shift) + centre) / steps
        nearest = np.floor(source + 0.5).astype(int)
        if (nearest >= 0).all() and (nearest < label.shape).all():
            moved[voxel] = label[tuple(nearest)]
    return moved


@pytest.mark.parametrize("shape", [(24, 30), (12, 15, 9)])
def test_equals_the_pull_back_written_out(shape: tuple[int, ...]) -> None:
    masks = _label(shape, 0)
    steps = np.array([0.9, 1.3, 2.1])[: len(shape)]
    axis = np.array([2.0, -1.0, 2.0]) / 3 if len(shape) == 3 else np.array([0.0, 0.0, 1.0])
    motion = RigidMotion(masks, steps, axis)
    for angle, length in ((0.0, 0.0), (17.0, 0.0), (-28.0, 3.3), (25.0, -7.7)):
        shift = np.array([0.6, 0.8, 0.37])[: len(shape)] * length
        expected = _pulled_back(masks, angle, shift, steps, axis)
        moved = motion.at(angle, shift)
        np.testing.assert_array_equal(motion.placed(moved), expected)
        assert motion.changed(moved) == (expected != masks[0] + 2 * masks[1]).sum()


def test_nothing_arrives_from_outside_the_image() -> None:
    masks = np.ones((1, 5, 6), bool)
    motion = RigidMotion(masks, np.ones(2), np.array([0.0, 0.0, 1.0]))
    moved = motion.at(0.0, np.array([2.0, 0.0]))
    assert motion.placed(moved).sum(1).tolist() == [0, 0, 6, 6, 6]
    gone = motion.at(0.0, np.array([0.0, -50.0]))
    assert gone[1].size == 0
    assert motion.changed(gone) == 30


def test_shifted_until_the_target_or_the_best_there_is() -> None:
    # A bar of columns 2-5 in 12, going right: 2 voxels per column until it is clear of itself, then less again
    # as it leaves; 8 at most.
    bar = np.zeros((1, 1, 12), bool)
    bar[..., 2:6] = True
    motion = RigidMotion(bar, np.ones(2), np.array([0.0, 0.0, 1.0]))

    def path(length: float) -> tuple:
        return motion.at(0.0, np.array([0.0, length]))

    length, label = shifted_until(motion, path, 5)
    # Two columns on, columns 4-7; the third would change 4 and 8, of which 4 comes first.
    assert np.flatnonzero(label[0]).tolist() == [5, 6, 7]
    assert 2 <= length < 3
    _, best = shifted_until(motion, path, 9)
    assert (best[0] != bar[0, 0]).sum() == 8


def test_met_stays_below_the_target_until_the_single_voxels() -> None:
    square = np.zeros((1, 8, 12), bool)
    square[0, 2:6, 2:6] = True
    motion = RigidMotion(square, np.ones(2), np.array([0.0, 0.0, 1.0]))
    length, label = met(motion, lambda length: motion.at(0.0, np.array([0.0, length])), 0.0, 4.0, 11)
    # 8 voxels per column of the shift: one column, to 3-6, and of the second the first three voxels that it changes:
    # 3 and 7 in the first row, 3 in the next.
    assert 1.4 < length <= 1.5
    assert (label != square[0]).sum() == 11
    rows = [np.flatnonzero(row).tolist() for row in label[2:6]]
    assert rows == [[4, 5, 6, 7], [4, 5, 6], [3, 4, 5, 6], [3, 4, 5, 6]]
