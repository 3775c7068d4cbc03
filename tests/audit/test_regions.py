"""Regions of contradicted voxels: which count, what they are called, and how large they are."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.audit.regions import Region, beyond_tolerance, error_regions


def _p(seems: np.ndarray, classes: int = 2, sure: float = 0.9) -> np.ndarray:
    rest = (1 - sure) / (classes - 1)
    return np.where(seems == np.arange(classes).reshape(-1, *[1] * seems.ndim), sure, rest).astype(np.float32)


def _found(
    given: np.ndarray, seems: np.ndarray, classes: int = 2, spacing: tuple[float, ...] | None = None, **how: float
) -> list[Region]:
    steps = spacing or (1.0,) * given.ndim
    return error_regions(given.astype(np.uint8), _p(seems, classes), given != seems, steps, **how)


def _ball(size: int, radius: float, dims: int = 2) -> np.ndarray:
    grid = np.indices((size,) * dims) - (size - 1) / 2
    return (np.sqrt((grid**2).sum(0)) <= radius).astype(np.uint8)


@pytest.mark.parametrize(("size", "radius"), [(64, 16.0), (256, 64.0), (64, 6.0), (256, 6.0)])
def test_an_uncertain_boundary_is_no_error_at_any_size(size: int, radius: float) -> None:
    for other in (radius - 1, radius + 1):
        assert _found(_ball(size, radius), _ball(size, other)) == []


@pytest.mark.parametrize(("given", "kind", "sign"), [(12.0, "in", 0), (24.0, "out", 1)])
def test_a_boundary_that_is_off_all_around(given: float, kind: str, sign: int) -> None:
    (region,) = _found(_ball(64, given), _ball(64, 18.0), spacing=(0.5, 0.5))
    assert region.type == f"boundary too far {kind}"
    assert region.given == sign
    assert region.voxels == abs(int(_ball(64, given).sum()) - int(_ball(64, 18.0).sum()))
    # 6 voxels of half a millimetre; the 95 % quantile lies within one voxel of it
    assert region.shift == pytest.approx(3.0, abs=0.5)
    assert region.margin == pytest.approx(0.8)
    assert region.confidence == pytest.approx(0.9)


def test_missing_and_spurious_structures_however_thin() -> None:
    line = np.zeros((20, 20), np.uint8)
    line[10, 3:17] = 1
    (missing,) = _found(np.zeros_like(line), line)
    (spurious,) = _found(line, np.zeros_like(line))
    assert (missing.type, spurious.type) == ("missing", "spurious")
    assert missing.voxels == spurious.voxels == 14
    assert missing.thickness == 1.0
    assert missing.shift is None


def test_a_missing_second_structure_is_told_from_a_boundary() -> None:
    both = np.zeros((30, 30), np.uint8)
    both[2:12, 2:12] = both[18:28, 18:28] = 1
    one = both.copy()
    one[18:] = 0
    assert [region.type for region in _found(one, both)] == ["missing"]
    piece = both.copy()
    piece[18:22] = 0
    assert [region.type for region in _found(piece, both)] == ["boundary too far in"]


def test_whole_slices_that_are_missing() -> None:
    full = np.zeros((12, 12, 10), np.uint8)
    full[3:9, 3:9, 1:9] = 1
    given = full.copy()
    given[..., 4:7] = 0
    assert [region.type for region in _found(given, full)] == ["missing"]
    assert [region.type for region in _found(full, given)] == ["spurious"]
    # the same piece cut off one side, in slices that hold the rest of it
    given = full.copy()
    given[3:6] = 0
    assert [region.type for region in _found(given, full)] == ["boundary too far in"]


def test_classes_that_are_confused() -> None:
    seems = np.zeros((20, 20), np.uint8)
    seems[4:16, 4:10], seems[4:16, 10:16] = 1, 2
    given = np.where(seems == 2, 1, seems)
    (region,) = _found(given, seems, classes=3)
    assert (region.type, region.given, region.seems, region.voxels) == ("class confusion", 1, 2, 72)
    assert region.window == (slice(4, 16), slice(10, 16))


def test_only_flagged_regions_count() -> None:
    seems = np.zeros((20, 20), np.uint8)
    seems[3:8, 3:8] = seems[12:17, 12:17] = 1
    flagged = np.zeros((20, 20), bool)
    flagged[3:8, 3:8] = flagged[12:17, 12:17] = True
    flagged[3, 3:8] = flagged[12, 12:17] = flagged[4, 3:5] = flagged[13, 12] = False  # 18 and 19 of 25 are left
    (region,) = error_regions(np.zeros((20, 20), np.uint8), _p(seems), flagged, (1.0, 1.0))
    assert region.window == (slice(12, 17), slice(12, 17))
    assert region.voxels == 25


def test_a_tolerance_in_millimetres_counts_the_spacing() -> None:
    given = np.zeros((30, 30), np.uint8)
    given[8:22, 8:22] = 1
    seems = np.zeros_like(given)
    seems[8:22, 8:25] = 1  # 3 voxels too far along the second axis
    assert _found(given, seems, spacing=(1.0, 0.5), tolerance=1.5) == []
    (region,) = _found(given, seems, spacing=(1.0, 1.0), tolerance=1.5)
    assert region.voxels == 42


def test_the_rest_of_a_rim_is_no_region() -> None:
    given, seems = np.zeros((2, 40, 40), np.uint8)
    given[10:30, 10:30] = 1
    seems[9:31, 9:31] = 1  # one voxel all around
    seems[18:22, 30:36] = 1  # and a bulge
    (region,) = _found(given, seems)
    columns = np.nonzero(region.mask)[1] + region.window[1].start
    assert columns.min() >= 30
    assert 4 * 6 <= region.voxels <= 4 * 6 + 4


@pytest.mark.parametrize("tolerance", [None, 1.2])
@pytest.mark.parametrize("outside", [(False, False), (True, False), (False, True)])
def test_tolerance_against_all_pairs(tolerance: float | None, outside: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    one, other, where = rng.random((3, 7, 9)) < 0.1
    spacing = np.array([0.5, 1.0])

    def near(place: tuple[int, ...], mask: np.ndarray, beyond: bool) -> bool:
        around = np.argwhere(np.pad(mask, 3, constant_values=beyond)) - 3 - place
        if tolerance is None:
            return bool((np.abs(around).max(1) <= 1).any())
        return bool((np.linalg.norm(around * spacing, axis=1) <= tolerance).any())

    found = beyond_tolerance(one, other, where, spacing.tolist(), tolerance, outside)
    places = [tuple(place) for place in np.argwhere(where)]
    expected = [not (near(place, one, outside[0]) and near(place, other, outside[1])) for place in places]
    assert [bool(found[place]) for place in places] == expected
    assert len(set(expected)) == 2


def test_the_last_slice_of_a_structure_may_be_uncertain() -> None:
    full = np.zeros((12, 12, 8), np.uint8)
    full[3:9, 3:9, 2:] = 1
    short = full.copy()
    short[..., -1] = 0
    assert _found(full, short) == []
    assert _found(short, full) == []
    short[..., -2] = 0
    assert [region.type for region in _found(full, short)] == ["spurious"]
    speck = np.zeros_like(full)
    speck[5, 5, -1] = 1
    assert [region.type for region in _found(speck, np.zeros_like(full))] == ["spurious"]
