"""Moment ellipses of boxes, lines, points and ellipses."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from monai_noisylabel.corruption import EllipseNoise, case_generator
from monai_noisylabel.corruption.ellipse import moment_ellipse, replace_by_ellipses


def _box(shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))] = True
    return mask


@pytest.mark.parametrize(("shape", "size"), [((40, 40), (12, 25)), ((24, 24, 40), (9, 6, 30))])
def test_a_box(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    # Variance of a side of length n: n^2 / 12. Semi-axis sqrt((d + 2) n^2 / 12). The volume grows by the factor
    # pi / 3 = 1.05 in 2D and 4 pi / 3 (5 / 12)^1.5 = 1.13 in 3D.
    start = (4,) * len(shape)
    centre = [low + (length - 1) / 2 for low, length in zip(start, size, strict=True)]
    semi = np.sqrt((len(shape) + 2) / 12) * np.array(size)
    grid = np.moveaxis(np.indices(shape), 0, -1)
    expected = (((grid - centre) / semi) ** 2).sum(-1) <= 1
    np.testing.assert_array_equal(moment_ellipse(_box(shape, start, size)), expected)
    factor = np.pi / 3 if len(shape) == 2 else 4 * np.pi / 3 * (5 / 12) ** 1.5
    assert expected.sum() == pytest.approx(factor * np.prod(size), rel=0.05)


@pytest.mark.parametrize("axes", [2, 3])
def test_an_ellipse_stays_what_it_is(axes: int) -> None:
    semi = np.array([9.0, 17.0, 12.0])[:axes]
    rotation = np.linalg.qr(np.random.default_rng(axes).normal(size=(axes, axes)))[0]
    grid = np.moveaxis(np.indices((45,) * axes), 0, -1) - 21.7
    mask = (((grid @ rotation) / semi) ** 2).sum(-1) <= 1
    assert (moment_ellipse(mask) ^ mask).sum() < 0.02 * mask.sum()


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 9)])
def test_a_single_voxel_and_a_line_stay_as_they_are(shape: tuple[int, ...]) -> None:
    # A voxel: semi-axes sqrt((d + 2) / 12) < 1. Three in a line: sqrt((d + 2) 9 / 12) = 1.73 in 2D and 1.94 in 3D
    # along it, less than 2; 0.58 and 0.65 across.
    for length in (1, 3):
        line = _box(shape, (3,) * len(shape), (length,) + (1,) * (len(shape) - 1))
        np.testing.assert_array_equal(moment_ellipse(line), line)


def test_a_diagonal_line_is_one_component_and_stays_thin() -> None:
    diagonal = np.eye(12, dtype=bool) & _box((12, 12), (3, 3), (6, 6))
    ellipse = moment_ellipse(diagonal)
    rows, columns = np.nonzero(ellipse)
    assert (ellipse & diagonal).sum() == 6
    assert np.abs(rows - columns).max() <= 1


def test_components_are_replaced_one_by_one_and_united() -> None:
    first, second = _box((40, 60), (5, 5), (20, 20)), _box((40, 60), (8, 40), (25, 8))
    both = moment_ellipse(first | second)
    np.testing.assert_array_equal(both, moment_ellipse(first) | moment_ellipse(second))
    # Two bars side by side, aslant: the box around one holds much of the other.
    rows, columns = np.indices((40, 40))
    bars = [(np.abs(rows - columns + offset) < 3) & (rows > 8) & (rows < 30) for offset in (0, 8)]
    np.testing.assert_array_equal(moment_ellipse(bars[0] | bars[1]), moment_ellipse(bars[0]) | moment_ellipse(bars[1]))


def test_the_image_cuts_ellipses_off() -> None:
    # 12 rows from the border: the semi-axis of 6.93 reaches one row beyond it.
    ellipse = moment_ellipse(_box((30, 30), (0, 8), (12, 12)))
    np.testing.assert_array_equal(ellipse, moment_ellipse(_box((40, 30), (10, 8), (12, 12)))[10:])


def test_no_ellipse_is_empty() -> None:
    generator = np.random.default_rng(0)
    for axes in (2, 3):
        for _ in range(40):
            walk = np.cumsum(generator.integers(-1, 2, (6, axes)), axis=0)
            mask = np.zeros((16,) * axes, bool)
            mask[tuple((walk + 8).T)] = True
            assert (moment_ellipse(mask) & mask).any()


def test_class_shares_change_as_those_that_were_published() -> None:
    # An instrument: a shaft (1), a wrist (2), and two claspers (3) that join in a V, which its ellipse fills. By the
    # shares that Guo and Yuan publish for Endovis18 (ClassDist/readme.txt of their code), ellipses take from the
    # background, the shaft and the wrist, and give to the claspers.
    rows, columns = np.indices((128, 160))
    across = np.abs(rows - 64)
    shaft = (across < 20) & (columns < 90)
    wrist = (across < 15) & (columns >= 90) & (columns < 106)
    clasper = (columns >= 106) & (columns < 136) & (np.abs(across - (columns - 100) / 2) < 4)
    clean = np.stack([shaft, wrist, clasper])
    noisy = replace_by_ellipses(clean)
    before, after = ([1 - masks.any(0).mean(), *masks.mean((1, 2))] for masks in (clean, noisy))
    published = np.subtract(
        (0.82303918, 0.08347754, 0.01862445, 0.07485883), (0.83976798, 0.08894528, 0.02007984, 0.0512069)
    )
    assert np.sign(np.subtract(after, before)).tolist() == np.sign(published).tolist() == [-1, -1, -1, 1]


def test_painting_order_and_a_structure_that_is_painted_over() -> None:
    # The corner of the square, structure 1, lies outside its own ellipse and under that of nothing; the point in
    # the middle of structure 2 lies under its disc and is structure 1's only one.
    disc = np.linalg.norm(np.indices((21, 21)) - 10, axis=0) <= 7
    point = np.zeros_like(disc)
    point[10, 10] = True
    masks = np.stack([point, disc & ~point])
    noisy = replace_by_ellipses(masks)
    assert np.argwhere(noisy[0]).tolist() == [[10, 10]]
    assert not noisy[1, 10, 10]
    swapped = replace_by_ellipses(masks[::-1])
    np.testing.assert_array_equal(swapped[1], point)
    apart = replace_by_ellipses(masks, overlap=True)
    assert apart[:, 10, 10].all()


def test_the_model_draws_nothing_and_counts_components() -> None:
    masks = np.zeros((3, 30, 30), bool)
    masks[0] = _box((30, 30), (2, 2), (9, 9))
    masks[2] = _box((30, 30), (2, 15), (9, 4)) | _box((30, 30), (20, 20), (5, 4)) | _box((30, 30), (25, 24), (2, 2))
    results = [
        EllipseNoise().apply(masks, partial(case_generator, seed, "a"), spacing=(1.0, 3.0), overlap=False)
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][0], replace_by_ellipses(masks))
    assert results[0][1] == {"1": {"components": 1}, "3": {"components": 2}}
