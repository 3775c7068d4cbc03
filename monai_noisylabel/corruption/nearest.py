"""The voxels nearest to the boundary of a structure, a given number of them, outside it or inside."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from .window import Window, bounding_window

__all__ = ["nearest_voxels", "smallest", "unit_ball_volume"]

SHORT = 100  # voxels: three squares of this, and 2 ** 15 plus one square, fit into 16 bits


def nearest_voxels(
    mask: np.ndarray, candidates: np.ndarray, count: int, steps: np.ndarray, *, inwards: bool = False
) -> tuple[Window, np.ndarray]:
    r"""The candidates nearest to a structure, or to its complement, by the Euclidean distance of voxel centres.

    Of equally near voxels the first in raster order are taken, and all candidates where there are no more than
    asked for. Only the window that is sure to hold them is looked at.

    Args:
        mask: binary mask of the structure, not empty.
        candidates: the voxels to choose from, outside the mask, or inside it for ``inwards``.
        count: how many to choose, at least 1.
        steps: length of a voxel step along each axis.
        inwards: whether to measure from the complement, for voxels inside. The border of the image is then no
            boundary, unless the mask fills the image and so has no other.

    Shape:
        mask and candidates (\*S), steps one per axis of S.

    Returns:
        The window and, inside it, the mask of the voxels chosen.

    Example:
        >>> import numpy as np
        >>> mask = np.array([0, 0, 1, 1, 1, 1, 0, 0], bool)
        >>> window, chosen = nearest_voxels(mask, ~mask, 3, np.ones(1))
        >>> window, chosen.astype(int).tolist()
        ((slice(0, 8, None),), [1, 1, 0, 0, 0, 0, 1, 0])
    """
    volume = int(np.count_nonzero(mask))
    reach = (
        _ball_growth(max(0, volume - count), volume, steps) if inwards else _ball_growth(volume, volume + count, steps)
    )
    while True:
        window = bounding_window(mask, 1 if inwards else reach)
        inside = mask[window]
        distance, known = _distance_inwards(inside, steps, reach) if inwards else _distance(inside, steps, reach)
        wanted = candidates[window]
        if (reach >= mask.shape).all() or np.count_nonzero(distance[wanted] <= known) >= count:
            return window, smallest(distance, wanted, count)
        reach = 2 * reach


def unit_ball_volume(axes: int) -> float:
    """Volume of the ball of radius 1.

    Args:
        axes: number of its dimensions.

    Example:
        >>> round(unit_ball_volume(2), 4), round(unit_ball_volume(3), 4)
        (3.1416, 4.1888)
    """
    return math.pi ** (axes / 2) / math.gamma(axes / 2 + 1)


def _ball_growth(smaller: int, larger: int, steps: np.ndarray) -> np.ndarray:
    """Voxels per axis between the surfaces of two concentric balls of these volumes, and two for the grid.

    No body gains less by a dilation, or loses less by an erosion, than the ball of its volume (Brunn and
    Minkowski), so in free space this reach is enough.
    """
    axes = len(steps)
    inner, outer = ((size * steps.prod() / unit_ball_volume(axes)) ** (1 / axes) for size in (smaller, larger))
    return np.ceil((outer - inner) / steps).astype(int) + 2


def _distance(seeds: np.ndarray, steps: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, float]:
    """Distance to the seeds, or its square in voxels, and the value up to which it is sure to be right."""
    if (steps == steps[0]).all() and reach.max() <= SHORT:
        return _short_squared_distance(seeds, reach), int(reach.min()) ** 2
    return ndimage.distance_transform_edt(~seeds, sampling=steps), float((reach * steps).min())


def _distance_inwards(inside: np.ndarray, steps: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, float]:
    outside = np.pad(~inside, 1, constant_values=bool(inside.all()))
    distance, known = _distance(outside, steps, reach)
    return distance[(slice(1, -1),) * inside.ndim], known


def _short_squared_distance(seeds: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Squared distance in voxels, right up to the reach and too large beyond it.

    Separable: along each axis in turn, the least of the values k voxels away plus k squared. For the few voxels
    of a boundary error, 16-bit minima are several times as fast as the distance transform of scipy.
    """
    squared = np.where(seeds, np.uint16(0), np.uint16(2**15))
    for axis, far in enumerate(reach.tolist()):
        along = np.moveaxis(squared, axis, 0)
        nearest = along.copy(order="K")
        away = np.empty_like(along)
        for step in range(1, min(far, len(along) - 1) + 1):
            np.add(along, np.uint16(step**2), out=away)
            np.minimum(nearest[step:], away[:-step], out=nearest[step:])
            np.minimum(nearest[:-step], away[step:], out=nearest[:-step])
        squared = np.moveaxis(nearest, 0, axis)
    return squared


def smallest(values: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """The candidates of smallest value, as many as asked for; of equal ones the first in raster order.

    Args:
        values: one number per voxel.
        candidates: mask of the voxels to choose from.
        count: how many to choose, at least 1; all where there are no more.

    Returns:
        Mask of the voxels chosen.

    Example:
        >>> import numpy as np
        >>> smallest(np.array([3, 1, 2, 2, 0]), np.array([1, 1, 1, 1, 0], bool), 2).astype(int).tolist()
        [0, 1, 1, 0, 0]
    """
    among = values[candidates]
    if among.size <= count:
        return candidates.copy()
    cutoff = np.partition(among, count - 1)[count - 1]
    chosen = candidates & (values < cutoff)
    ties = np.flatnonzero(candidates & (values == cutoff))
    chosen.flat[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen
