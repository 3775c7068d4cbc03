"""Where on the voxel grid a noise model has to work: the window around a structure, and the size of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Window", "bounding_window", "voxel_steps"]

Window = tuple[slice, ...]


def bounding_window(mask: np.ndarray, margin: Sequence[int] | np.ndarray | int = 0) -> Window:
    r"""Bounding box of a mask, widened as far as the image goes.

    Args:
        mask: binary mask that is not empty.
        margin: voxels to add at either end, of each axis or of all.

    Shape:
        mask (\*S).

    Returns:
        One slice per axis.

    Raises:
        ValueError: if the mask is empty.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[3:5, 7] = True
        >>> bounding_window(mask, 2)
        (slice(1, 7, None), slice(5, 9, None))
    """
    if not mask.any():
        raise ValueError("an empty mask has no bounding box.")
    window = []
    for axis, pad in enumerate(np.broadcast_to(margin, mask.ndim).tolist()):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        first, last = int(occupied[0]), int(occupied[-1])
        window.append(slice(max(0, first - pad), min(mask.shape[axis], last + 1 + pad)))
    return tuple(window)


def voxel_steps(spacing: Sequence[float] | None, axes: int) -> np.ndarray:
    """Length of one voxel step along each axis: the spacing, or ones where there is none.

    Args:
        spacing: voxel size in mm along each axis, or None to count voxels.
        axes: number of spatial axes.

    Raises:
        ValueError: if the spacing is not one positive number per axis.

    Example:
        >>> voxel_steps(None, 2).tolist(), voxel_steps((0.8, 0.8, 5.0), 3).tolist()
        ([1.0, 1.0], [0.8, 0.8, 5.0])
    """
    steps = np.ones(axes) if spacing is None else np.asarray(spacing, dtype=float)
    if steps.shape != (axes,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"spacing must be {axes} positive numbers, one per axis, got {spacing}.")
    return steps
