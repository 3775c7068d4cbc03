"""Kinds of error: drawn by hand, one row of voxels per structure."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.corruption import error_kinds


def _masks(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("clean", "noisy", "kinds"),
    [
        (["..###..."], ["..###..."], ["none"]),
        (["........"], ["........"], ["none"]),
        (["..###..."], [".####..."], ["contour"]),
        (["..###.#."], ["..##...."], ["instance"]),  # the lone voxel was overlooked
        (["..###..."], ["..##...#"], ["instance"]),  # a voxel where nothing is
        (["..###..."], ["........"], ["instance"]),
        (["........"], ["..###..."], ["instance"]),
        (["..###..."], [".....###"], ["instance"]),  # moved off: nothing in common
        (["##..##.."], [".##..##."], ["contour"]),  # every part meets its counterpart
        # Two of three changed voxels of each structure go over to the other.
        ([".####...", ".....###"], ["###.....", "...#####"], ["class_confusion", "class_confusion"]),
        # One of two changed voxels is exchanged: not more than half.
        ([".###....", "....###."], ["####....", "....###."], ["contour", "none"]),
        ([".###....", "....###."], ["###.....", "...####."], ["contour", "class_confusion"]),
    ],
)
def test_by_hand(clean: list[str], noisy: list[str], kinds: list[str]) -> None:
    assert error_kinds(_masks(*clean), _masks(*noisy)) == kinds


def test_all_voxels_exchanged_between_overlapping_structures() -> None:
    """Multi-label: the second structure lies in the first, which stays; nothing is exchanged with it."""
    assert error_kinds(_masks("######", "..##.."), _masks("######", ".###..")) == ["none", "contour"]


def test_corners_connect() -> None:
    clean = np.zeros((1, 6, 6), bool)
    clean[0, 1:3, 1:3] = clean[0, 3, 3] = True
    noisy = clean.copy()
    noisy[0, 3, 3] = False
    assert error_kinds(clean, noisy) == ["contour"]
    clean[0, 3, 3], clean[0, 4, 4] = False, True
    assert error_kinds(clean, noisy) == ["instance"]


def test_volumes() -> None:
    clean = np.zeros((2, 12, 12, 6), bool)
    clean[0, 2:6, 2:6, 1:4] = True
    clean[1, 6:9, 2:6, 1:4] = True
    noisy = clean.copy()
    noisy[0, 5] = False
    noisy[1, 5, 2:6, 1:4] = True
    assert error_kinds(clean, noisy) == ["class_confusion", "class_confusion"]
    noisy[0, 9:11, 9:11, 5] = True
    assert error_kinds(clean, noisy) == ["instance", "class_confusion"]
