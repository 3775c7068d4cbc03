"""Painting order, and no structure lost."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.corruption.painting import deepest_voxel, keep_present, paint


def test_later_structures_win() -> None:
    wanted = np.array([[1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0]], bool)
    clean = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]], bool)
    assert paint(wanted, clean).astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]]


def test_a_structure_that_is_painted_over_keeps_a_voxel() -> None:
    clean = np.eye(3, dtype=bool)[:, None]
    wanted = np.array([[[1, 1, 0]], [[1, 1, 1]], [[0, 0, 1]]], bool)
    # Structure 1 is painted over altogether and gets its voxel back, from structure 2.
    assert paint(wanted, clean).astype(int).tolist() == [[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]]


def test_a_voxel_given_back_can_be_the_last_of_another() -> None:
    # Structure 2 vanished; its voxel is the only one that structure 1 holds, which then gets its own back.
    clean = np.array([[1, 0, 0], [0, 0, 1]], bool)
    noisy = np.array([[0, 0, 1], [0, 0, 0]], bool)
    assert keep_present(noisy, clean, overlap=False).astype(int).tolist() == [[1, 0, 0], [0, 0, 1]]
    # A chain of them: 4 lost to 3, 3 to 2, 2 to 1; each gives way when the next is restored.
    clean, noisy = np.eye(4, dtype=bool), np.eye(4, k=1, dtype=bool)
    np.testing.assert_array_equal(keep_present(noisy, clean, overlap=False), clean)


@pytest.mark.parametrize(("overlap", "first"), [(True, [1, 1, 1]), (False, [1, 0, 1])])
def test_only_without_overlap_is_the_voxel_taken_from_others(overlap: bool, first: list[int]) -> None:
    clean = np.array([[1, 1, 1], [0, 1, 0]], bool)
    noisy = np.array([[1, 1, 1], [0, 0, 0]], bool)
    assert keep_present(noisy, clean, overlap=overlap).astype(int).tolist() == [first, [0, 1, 0]]


def test_absent_structures_stay_absent_and_the_input_is_not_changed() -> None:
    clean = np.zeros((2, 4, 4), bool)
    clean[0, 1, 1] = True
    wanted = np.zeros_like(clean)
    painted = paint(wanted, clean)
    np.testing.assert_array_equal(painted, clean)
    assert not wanted.any()


def test_deepest_voxel() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 3:8] = True
    assert deepest_voxel(mask) == (4, 5)
    assert deepest_voxel(np.ones((3, 3), bool)) == (0, 0)
    # The border of the image is no boundary: the last column is the deepest, its row farthest from row 5.
    half = np.zeros((6, 6), bool)
    half[:5, 3:] = True
    assert deepest_voxel(half) == (0, 5)
