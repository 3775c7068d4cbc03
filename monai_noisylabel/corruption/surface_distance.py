"""How far apart two outlines of a structure are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .window import bounding_window, voxel_steps

__all__ = ["surface_distance"]


def surface_distance(one: np.ndarray, other: np.ndarray, spacing: Sequence[float] | None = None) -> float | None:
    r"""Mean symmetric surface distance of two masks.

    With the surface :math:`\partial M` of a mask, its voxels with a face on the outside, and
    :math:`d(v, \partial M)` the distance of voxel centres to the nearest one of it,

    .. math:: \frac{\sum_{v \in \partial A} d(v, \partial B) + \sum_{v \in \partial B} d(v, \partial A)}
              {|\partial A| + |\partial B|}.

    What lies beyond the border of the image is outside. The mean says how far an outline is off on the whole; a
    small part that is far away hardly shows in it.

    Args:
        one: binary mask.
        other: binary mask of the same shape.
        spacing: voxel size in mm along each axis; None counts voxels.

    Shape:
        one and other (\*S), with any number of axes.

    Returns:
        The distance in mm, or in voxels without spacing; 0 for equal masks, two empty ones among them; None if
        only one is empty, which is at no distance.

    Raises:
        ValueError: if the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> one, other = np.zeros((2, 9, 9), bool)
        >>> one[2:7, 2:7] = other[1:8, 1:8] = True
        >>> round(surface_distance(one, other), 4), round(surface_distance(one, other, (2.0, 2.0)), 4)
        (1.0414, 2.0828)
    """
    steps = voxel_steps(spacing, one.ndim)
    if np.array_equal(one, other):
        return 0.0
    if not one.any() or not other.any():
        return None
    window = bounding_window(one | other)
    surfaces = [_surface(mask[window]) for mask in (one, other)]
    there = [
        ndimage.distance_transform_edt(~target, sampling=steps)[source]
        for source, target in (surfaces, reversed(surfaces))
    ]
    return float(np.concatenate(there).mean())


def _surface(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))
