"""Connected regions of voxels whose label a network contradicts, and what kind of error each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from monai_noisylabel.corruption.window import bounding_window

__all__ = ["ErrorType", "Region", "beyond_tolerance", "error_regions"]

ErrorType = Literal["missing", "spurious", "boundary too far in", "boundary too far out", "class confusion"]
Slices = tuple[slice, ...]

APART = 0.75
"""A region that makes up this share of the structure it belongs to is the structure, not a piece of its boundary."""

FLAGGED_SHARE = 0.75
"""Share of a region that confident learning must hold to be wrong.

Chosen on simulated errors in cases that the tables of results are not about, as the share (of 0, 1/4, 1/2, 3/4) whose
proposed labels hold the fewest wrong voxels. It leaves 66, 71 and 101 of 100 in hippocampi, chest radiographs and
hearts; one flagged voxel being enough, 102, 92 and 153.
"""

SHIFT_QUANTILE = 0.95


@dataclass(frozen=True)
class Region:
    """A connected region that is given one class and seems to be another.

    Args:
        given: class in the label.
        seems: class that the network says.
        type: what kind of error it is.
        window: box around it.
        mask: its voxels within the box.
        margin: mean of p_seems - p_given.
        confidence: mean probability that the given class is wrong, 1 - p_given.
        thickness: of the region, in the unit of the spacing.
        shift: how far the boundary is off, in the unit of the spacing; None for what is no boundary error.
    """

    given: int
    seems: int
    type: ErrorType
    window: Slices
    mask: np.ndarray
    margin: float
    confidence: float
    thickness: float
    shift: float | None

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))


def error_regions(
    given: np.ndarray, p: np.ndarray, flagged: np.ndarray, spacing: Sequence[float], tolerance: float | None = None
) -> list[Region]:
    r"""Regions of one case in which the network contradicts the label by more than the tolerance.

    Of the voxels whose most probable class is not the given one, those count that :func:`beyond_tolerance` leaves, and
    their neighbours among the others. Their connected components (touching by corners too) of one given and one other
    class are the regions; a component of which less than three quarters is flagged is none. A region is

    - ``"missing"`` (background is given) or ``"spurious"`` (background seems right) if it makes up three quarters or
      more of the structure that it would be joined to or cut from, or lies mostly in slices along the last axis that
      hold nothing else of this structure;
    - ``"boundary too far in"`` or ``"boundary too far out"`` otherwise; the shift is the 95 % quantile of the distance
      of its voxels to the boundary that the label should have been drawn from;
    - ``"class confusion"`` if both classes are structures.

    Args:
        given: class in the label.
        p: probability of every class.
        flagged: voxels that confident learning holds to be wrong.
        spacing: voxel size along each axis.
        tolerance: as :func:`beyond_tolerance`.

    Shape:
        given, flagged (\*S); p (C, \*S).

    Example:
        >>> given, seems = np.zeros((2, 9, 20), np.uint8)
        >>> given[2:7, 2:7] = seems[2:7, 2:11] = seems[6:9, 16:19] = 1
        >>> p = np.where(seems == np.arange(2)[:, None, None], np.float32(0.9), np.float32(0.1))
        >>> for r in error_regions(given, p, given != seems, (1.0, 0.5)):
        ...     print(r.type, r.voxels, round(r.margin, 2), r.thickness, r.shift)
        boundary too far in 20 0.8 1.5 2.0
        missing 9 0.8 1.5 None
    """
    seems = p.argmax(0).astype(given.dtype)
    differs = seems != given
    found = []
    for i, j in _pairs(given, seems, differs):
        pair = differs & (given == i) & (seems == j)
        core = pair & beyond_tolerance(given == j, seems == i, pair, spacing, tolerance, outside=(j == 0, i == 0))
        excess = pair & ndimage.binary_dilation(core, np.ones((3,) * core.ndim, bool)) if core.any() else core
        found += list(_components(given, seems, p, flagged, excess, (i, j), spacing))
    return found


def beyond_tolerance(
    given_other: np.ndarray,
    seems_given: np.ndarray,
    where: np.ndarray,
    spacing: Sequence[float],
    tolerance: float | None = None,
    outside: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    r"""Which contradicted voxels are more than an uncertain boundary.

    A voxel given class i that seems to be j is tolerated if both the given j and the predicted i lie within the
    tolerance: then the two boundaries are no further apart than that. A rim as thin as the tolerance disappears
    altogether, a thicker one stays altogether, and so does a small structure of which the other side has nothing.

    Args:
        given_other: where j is given.
        seems_given: where i seems right.
        where: the voxels asked for.
        spacing: voxel size along each axis.
        tolerance: distance in the unit of the spacing; None: one voxel along each axis, diagonals included.
        outside: whether what lies beyond the border of the image counts as the given j, and as the predicted i: a
            background does, so that the last slice of a structure may be uncertain too.

    Shape:
        all (\*S).

    Example:
        >>> given = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1])
        >>> seems = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0])
        >>> beyond_tolerance(given == 0, seems == 1, given > seems, [1.0]).astype(int).tolist()
        [1, 1, 0, 1, 1, 1, 1, 1, 1]
    """
    result = np.ones(where.shape, bool)
    if not where.any():
        return result
    reach = [1 if tolerance is None else int(np.ceil(tolerance / step)) for step in spacing]
    window = tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part, margin in zip(bounding_window(where), reach, strict=True)
    )
    sides = zip((given_other, seems_given), outside, strict=True)
    near = [_near(np.pad(mask[window], 1, constant_values=beyond), spacing, tolerance) for mask, beyond in sides]
    result[window] = ~(near[0] & near[1])
    return result


def _near(padded: np.ndarray, spacing: Sequence[float], tolerance: float | None) -> np.ndarray:
    """Which voxels, without the padding by one, have one of a mask within the tolerance."""
    inner = (slice(1, -1),) * padded.ndim
    if not padded.any():
        return padded[inner]
    if tolerance is None:
        return np.asarray(ndimage.binary_dilation(padded, np.ones((3,) * padded.ndim, bool)))[inner]
    return np.asarray(ndimage.distance_transform_edt(~padded, sampling=spacing) <= tolerance)[inner]


def _pairs(given: np.ndarray, seems: np.ndarray, differs: np.ndarray) -> list[tuple[int, int]]:
    present = np.unique(given[differs].astype(np.int64) * 256 + seems[differs])
    return [(int(code) // 256, int(code) % 256) for code in present]


def _components(
    given: np.ndarray,
    seems: np.ndarray,
    p: np.ndarray,
    flagged: np.ndarray,
    excess: np.ndarray,
    pair: tuple[int, int],
    spacing: Sequence[float],
) -> Iterator[Region]:
    """Regions of one pair of classes."""
    everywhere = np.ones((3,) * given.ndim, bool)
    labelled, count = ndimage.label(excess, everywhere)
    if not count:
        return
    held = np.bincount(labelled[flagged], minlength=count + 1)
    i, j = pair
    structure = (given == j) if i == 0 else (seems == i)  # what the region is a piece of, besides itself
    pieces = ndimage.label(structure, everywhere)[0] if 0 in pair else None
    sizes = None if pieces is None else np.bincount(pieces.ravel())
    for number, window in enumerate(ndimage.find_objects(labelled), start=1):
        mask = labelled[window] == number
        if held[number] < FLAGGED_SHARE * np.count_nonzero(mask):
            continue
        own, other = p[(i, *window)][mask], p[(j, *window)][mask]
        kind: ErrorType = "class confusion"
        shift = None
        if pieces is not None and sizes is not None:
            if _stands_apart(mask, window, pieces, sizes, structure):
                kind = "missing" if i == 0 else "spurious"
            else:
                kind = "boundary too far in" if i == 0 else "boundary too far out"
                shift = _shift(mask, window, structure, spacing)
        margin, confidence = float((other - own).mean()), float(1 - own.mean())
        yield Region(i, j, kind, window, mask, margin, confidence, _thickness(mask, spacing), shift)


def _stands_apart(
    mask: np.ndarray, window: Slices, pieces: np.ndarray, sizes: np.ndarray, structure: np.ndarray
) -> bool:
    """Whether a region is a structure of its own, or all there is of it in its slices."""
    grown = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in window)
    padding = [
        (part.start - wide.start, min(wide.stop, size) - part.stop)
        for part, wide, size in zip(window, grown, pieces.shape, strict=True)
    ]
    reach = ndimage.binary_dilation(np.pad(mask, padding), np.ones((3,) * mask.ndim, bool))
    touched = np.unique(pieces[grown][reach])
    rest = int(sizes[touched[touched > 0]].sum())
    voxels = int(np.count_nonzero(mask))
    if voxels >= APART * (voxels + rest):
        return True
    if mask.ndim < 3:
        return False
    alone = ~structure[..., window[-1]].any((0, 1))
    return 2 * int(mask[..., alone].sum()) > voxels


def _thickness(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Diameter of the largest ball within a region, in steps of the thinnest voxel: one voxel is one voxel thick."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return float(max(2 * inside.max() - min(spacing), min(spacing)))


def _shift(mask: np.ndarray, window: Slices, structure: np.ndarray, spacing: Sequence[float]) -> float:
    """How far the voxels of a region reach from a structure that it touches."""
    margin = [int(part.stop - part.start) for part in window]
    wide = tuple(slice(max(0, part.start - more), part.stop + more) for part, more in zip(window, margin, strict=True))
    distance = ndimage.distance_transform_edt(~structure[wide], sampling=spacing)
    inner = tuple(
        slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(window, wide, strict=True)
    )
    return float(np.quantile(distance[inner][mask], SHIFT_QUANTILE))
