"""Spurious components: where they may lie, how large they are, and their shape in mm."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from monai_noisylabel.corruption import SpuriousNoise, case_generator
from monai_noisylabel.corruption.spurious import add_component, ellipsoid


def _boxes(axes: int) -> np.ndarray:
    """Two structures that touch, and an absent one."""
    masks = np.zeros((3, *(28,) * axes), bool)
    masks[(0, slice(4, 12), *(slice(6, 14),) * (axes - 1))] = True
    masks[(1, slice(12, 16), *(slice(6, 14),) * (axes - 1))] = True
    return masks


def _apply(masks: np.ndarray, case: str = "a", seed: int = 0, **options: Any) -> tuple[np.ndarray, dict]:
    noise = SpuriousNoise(options.pop("size", 0.3))
    return noise.apply(masks, partial(case_generator, seed, case), **{"spacing": None, "overlap": False, **options})


def _components(mask: np.ndarray) -> int:
    return ndimage.label(mask, np.ones((3,) * mask.ndim))[1]


@pytest.mark.parametrize("steps", [(1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 1.0), (0.8, 0.8, 3.0)])
def test_ellipsoid_has_its_volume_and_shape_in_mm(steps: tuple[float, ...]) -> None:
    # A solid ellipsoid of semi-axes r_i has variances r_i^2 / (d + 2) along them and volume
    # (pi or 4 pi / 3) prod r_i. The r_i are in the proportion of draws from U(0.5, 1): their ratio is below 2.
    # The voxels, as boxes, add steps^2 / 12 to the variances.
    axes = len(steps)
    for seed in range(6):
        offsets = ellipsoid(3000, np.array(steps), np.random.default_rng(seed))
        assert len(np.unique(offsets, axis=0)) == len(offsets) == 3000
        in_mm = offsets * steps
        assert np.abs(in_mm.mean(0)).max() < 0.1
        variances = np.linalg.eigvalsh(np.cov(in_mm.T) + np.diag(np.square(steps)) / 12)
        semi_axes = np.sqrt((axes + 2) * variances)
        volume = {2: np.pi, 3: 4 / 3 * np.pi}[axes] * semi_axes.prod()
        assert volume == pytest.approx(3000 * np.prod(steps), rel=0.03)
        assert semi_axes.max() / semi_axes.min() < 2.03


def test_ellipsoids_differ_in_proportion_and_orientation() -> None:
    covariances = [np.cov(ellipsoid(500, np.ones(2), np.random.default_rng(seed)).T) for seed in range(60)]
    values, vectors = np.linalg.eigh(covariances)
    ratios = np.sqrt(values[:, 1] / values[:, 0])
    angles = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1])) % 180
    assert ratios.min() < 1.1
    assert ratios.max() > 1.6
    # Directions are uniform: of those of the elongated ones a third lies within 15 degrees of an axis.
    to_axis = np.abs((angles[ratios > 1.2] + 45) % 90 - 45)
    assert (to_axis < 15).mean() < 0.6
    assert set((angles // 45).astype(int)) == {0, 1, 2, 3}


@pytest.mark.parametrize("axes", [2, 3])
def test_small_ellipsoids_are_compact(axes: int) -> None:
    # The nearest voxel to the centre is the centre; a step's length is 1 to 2 in the scaled norm, a diagonal of d
    # steps sqrt(d) to 2 sqrt(d).
    generator = np.random.default_rng(0)
    for _ in range(20):
        assert ellipsoid(1, np.ones(axes), generator).tolist() == [[0] * axes]
        assert np.abs(ellipsoid(2, np.ones(axes), generator)).max() == 1


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("anisotropic", [False, True])
def test_every_present_structure_gets_one_separate_component(axes: int, overlap: bool, anisotropic: bool) -> None:
    # Structures of 8^d and 4 * 8^(d - 1) voxels get int(0.3 A) more.
    masks = _boxes(axes)
    before = masks.copy()
    spacing = (0.8, 0.8, 2.0)[-axes:] if anisotropic else None
    for case in "abc":
        noisy, drawn = _apply(masks, case, overlap=overlap, spacing=spacing)
        assert set(drawn) == {"1", "2"}
        assert noisy.dtype == bool
        assert (masks <= noisy).all()
        assert not noisy[2].any()
        for number in (1, 2):
            mask, what = noisy[number - 1], drawn[str(number)]
            added = mask & ~masks[number - 1]
            assert added.sum() == what["voxels"] == what["requested"] == int(0.3 * masks[number - 1].sum())
            assert added[tuple(what["centre"])]
            assert _components(added) == 1
            assert _components(mask) == 2
        if not overlap:
            assert noisy.sum(0).max() == 1
    np.testing.assert_array_equal(masks, before)


def test_components_have_their_shape_in_mm() -> None:
    # Voxels four times as long along the first axis: over 20 cases the components are a quarter as long along it.
    masks = np.zeros((1, 60, 120), bool)
    masks[0, 26:34, 48:80] = True
    extents = {}
    for spacing in (None, (4.0, 1.0)):
        added = [_apply(masks, str(case), size=1.0, spacing=spacing)[0][0] & ~masks[0] for case in range(20)]
        lengths = [np.ptp(np.argwhere(one), axis=0) + 1 for one in added]
        extents[spacing] = np.mean([down / right for down, right in lengths])
    assert extents[None] == pytest.approx(1, abs=0.3)
    assert extents[4.0, 1.0] == pytest.approx(0.25, abs=0.08)


def test_components_of_a_multi_class_label_avoid_each_other() -> None:
    # 42 voxels of background for components of 21: what an earlier structure took is not free for a later one, so
    # that some are smaller.
    masks = np.zeros((3, 7, 15), bool)
    masks[0, :, :3] = masks[1, :, 3:6] = masks[2, :, 6:9] = True
    for index in range(15):
        noisy, drawn = _apply(masks, f"case{index}", size=1.0)
        assert noisy.sum(0).max() == 1
        assert (masks <= noisy).all()
        assert [int((n & ~m).sum()) for n, m in zip(noisy, masks, strict=True)] == [
            drawn[number]["voxels"] for number in "123"
        ]


def test_component_of_a_multi_label_map_may_lie_on_another_structure() -> None:
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:6, 2:6] = True
    masks[1] = ~masks[0]
    assert _apply(masks, overlap=True)[1]["1"]["voxels"] == 4
    noisy, drawn = _apply(masks, overlap=False)
    np.testing.assert_array_equal(noisy, masks)
    assert drawn["1"] == {"requested": 4, "voxels": 0, "centre": []}


def test_at_least_one_voxel_is_requested() -> None:
    masks = np.zeros((1, 9, 9), bool)
    masks[0, 1, 1] = True
    noisy, drawn = _apply(masks)
    assert drawn["1"]["requested"] == 1
    assert noisy.sum() == 2


def test_volume_is_halved_until_the_component_fits() -> None:
    # One free voxel: 76, 38, 19, 9, 4, 2 do not fit, 1 does. A square of 3 x 3 holds no 10 or more.
    mask = np.zeros((12, 12), bool)
    mask[0, 0] = True
    free = np.zeros_like(mask)
    free[7, 4] = True
    noisy, centre = add_component(mask, free, 76, np.random.default_rng(0))
    assert centre == (7, 4)
    assert np.argwhere(noisy).tolist() == [[0, 0], [7, 4]]
    free[6:9, 3:6] = True
    sizes = {int(add_component(mask, free, 40, np.random.default_rng(seed))[0].sum()) - 1 for seed in range(30)}
    assert sizes <= {5, 2}  # 40 / 2^k that a square of 3 x 3 can hold
    assert 5 in sizes


@pytest.mark.parametrize("axes", [2, 3])
def test_no_room_leaves_the_structure_as_it_is(axes: int) -> None:
    # Every voxel around the one in the middle touches it, corners included.
    mask = np.zeros((3,) * axes, bool)
    mask[(1,) * axes] = True
    noisy, centre = add_component(mask, ~mask, 3, np.random.default_rng(0))
    assert centre == ()
    np.testing.assert_array_equal(noisy, mask)
    assert noisy is not mask


def test_all_places_are_equally_likely() -> None:
    # Free voxels 1 in the first row, 3 in the third: each is drawn with probability 1/4, of 800 draws 200 +- 12.
    free = np.zeros((3, 8), bool)
    free[0, 1] = free[2, 2] = free[2, 4] = free[2, 6] = True
    generator = np.random.default_rng(0)
    empty = np.zeros_like(free)
    centres = [add_component(empty, free, 1, generator)[1] for _ in range(800)]
    counts = [centres.count(place) for place in ((0, 1), (2, 2), (2, 4), (2, 6))]
    assert sum(counts) == 800
    assert min(counts) > 150
    assert max(counts) < 250


def test_depends_on_seed_and_case_alone() -> None:
    masks = _boxes(3)
    noisy, drawn = _apply(masks)
    again, drawn_again = _apply(masks)
    np.testing.assert_array_equal(noisy, again)
    assert drawn == drawn_again
    assert drawn["1"]["centre"] != _apply(masks, case="b")[1]["1"]["centre"]
    assert drawn["1"]["centre"] != _apply(masks, seed=1)[1]["1"]["centre"]
    # A structure's draws are its own: those of the second do not change when the first is absent.
    alone = masks.copy()
    alone[0] = False
    assert _apply(alone, overlap=True)[1]["2"] == _apply(masks, overlap=True)[1]["2"]


@pytest.mark.parametrize("size", [0, -0.3, float("nan"), float("inf"), True, "0.3"])
def test_size_is_checked(size: Any) -> None:
    with pytest.raises(ValueError, match="Noise model 'spurious': size must be a number above 0, got"):
        SpuriousNoise(size)


@pytest.mark.parametrize(
    ("voxels", "spacing", "message"),
    [
        (0, None, "voxels must be at least 1, got 0"),
        (3, (1.0,), r"spacing must be 2 positive numbers, one per axis, got \(1.0,\)"),
        (3, (1.0, 0.0), "spacing must be 2 positive numbers"),
    ],
)
def test_errors(voxels: int, spacing: tuple[float, ...] | None, message: str) -> None:
    mask = np.zeros((6, 6), bool)
    with pytest.raises(ValueError, match=message):
        add_component(mask, ~mask, voxels, np.random.default_rng(0), spacing)
