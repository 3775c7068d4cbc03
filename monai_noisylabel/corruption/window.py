"""Where on the voxel grid a noise model has to work: the window around a structure, and the size of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Window", "bounding_window", "square_window", "voxel_steps"]

LEAST_SIDE = 40

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


def square_window(mask: np.ndarray, spacing: Sequence[float], context: float) -> tuple[slice, slice]:
    r"""Square, in the unit of the spacing, around what is marked in a slice, as far as the slice goes.

    Args:
        mask: what is marked; of an empty one the window is the whole slice.
        spacing: of the two axes.
        context: side of the square over the longer side of what is marked; it is 40 of the larger voxels at least.

    Shape:
        mask (H, W).

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((100, 200), bool)
        >>> mask[45:55, 20:80] = True
        >>> square_window(mask, (1.0, 1.0), context=1.5)
        (slice(5, 95, None), slice(5, 95, None))
    """
    if not mask.any():
        return slice(None), slice(None)
    marked = bounding_window(mask)
    side = max((part.stop - part.start) * step for part, step in zip(marked, spacing, strict=True)) * context
    side = max(side, LEAST_SIDE * max(spacing))
    window = []
    for part, step, size in zip(marked, spacing, mask.shape, strict=True):
        length = min(size, round(side / step))
        start = min(max(0, (part.start + part.stop - length) // 2), size - length)
        window.append(slice(start, start + length))
    return window[0], window[1]


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
