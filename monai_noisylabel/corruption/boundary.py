"""Absolute boundary noise: a structure annotated too large or too small by a fixed distance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["draw_boundary_shift", "shift_boundaries", "shift_boundary"]

Window = tuple[slice, ...]


def shift_boundary(mask: np.ndarray, amount: float, spacing: Sequence[float] | None = None) -> np.ndarray:
    r"""Move the boundary of one structure outwards or inwards by a Euclidean distance.

    With d(v, A) the distance between voxel centres from v to the nearest voxel of A,

    .. math:: M_{+b} = \{v : d(v, M) \le b\}, \qquad M_{-b} = \{v : d(v, M^c) > b\},

    so that a straight edge moves by exactly b voxels either way. The border of the image is no boundary: a
    structure cut off by it is not eroded from there. An erosion that would leave nothing keeps the deepest
    voxels of the structure (all those at the largest depth), so a structure never vanishes; a small connected
    part of it can.

    The error is the same along the whole boundary. Real annotators also err locally, which this does not
    simulate.

    Args:
        mask: binary mask of one structure. It is not changed.
        amount: distance, positive to dilate and negative to erode; in voxels, or in mm when ``spacing`` is
            given.
        spacing: voxel size in mm along each axis.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Raises:
        ValueError: if the amount is not finite, or the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> mask = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0], bool)
        >>> shift_boundary(mask, 2).astype(int).tolist()
        [0, 1, 1, 1, 1, 1, 1, 1, 0]
        >>> shift_boundary(mask, -1).astype(int).tolist()
        [0, 0, 0, 0, 1, 0, 0, 0, 0]
        >>> shift_boundary(mask, 5, spacing=[4.0]).astype(int).tolist()
        [0, 0, 1, 1, 1, 1, 1, 0, 0]

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.

    Deviation:
        The paper does not name its structuring element; a Euclidean ball is used here.
    """
    mask = np.asarray(mask, dtype=bool)
    _require_finite(amount)
    steps = _voxel_steps(spacing, mask.ndim)
    result = np.zeros_like(mask)
    if mask.any():
        window, shifted, _ = _shift(mask, amount, steps)
        result[window] = shifted
    return result


def shift_boundaries(
    masks: np.ndarray,
    amounts: Sequence[float],
    spacing: Sequence[float] | None = None,
    *,
    overlap: bool = False,
) -> np.ndarray:
    r"""Move the boundary of every structure of a case, each by its own distance.

    Without overlap, every voxel goes to that one of the shifted structures containing it whose *original*
    mask is nearest; of equally near ones, to the earlier structure. A voxel that its own structure keeps is
    at distance 0, so dilation claims background and what a neighbour has given up by erosion, never what the
    neighbour still holds. The outcome does not depend on an order of painting except in ties, and no
    structure vanishes.

    Args:
        masks: binary masks, one per structure. They are not changed.
        amounts: signed distance for each structure, see :func:`shift_boundary`.
        spacing: voxel size in mm along each axis; None means that the amounts are voxels.
        overlap: whether structures may overlap (multi-label); if not, the given masks must not overlap
            either.

    Shape:
        masks (K, \*S) with K of at least 1; result the same, of bool.

    Raises:
        ValueError: if there is not one amount per structure, or for the reasons of :func:`shift_boundary`.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]], bool)
        >>> shift_boundaries(masks, [2, 2]).astype(int).tolist()
        [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]]
        >>> shift_boundaries(masks, [2, 2], overlap=True).astype(int).tolist()
        [[1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]]

    Deviation:
        The paper does not say what happens where neighbouring organs meet; the rule above is a design
        decision. It makes multi-class noise milder than painting the dilated structures over one another
        would.
    """
    masks = np.asarray(masks, dtype=bool)
    if len(amounts) != len(masks):
        raise ValueError(f"{len(masks)} structures need as many amounts, got {len(amounts)}.")
    if overlap:
        return np.stack([shift_boundary(mask, amount, spacing) for mask, amount in zip(masks, amounts, strict=True)])
    steps = _voxel_steps(spacing, masks.ndim - 1)
    nearest = np.full(masks.shape[1:], np.inf)
    owner = np.full(masks.shape[1:], -1)
    for structure, (mask, amount) in enumerate(zip(masks, amounts, strict=True)):
        _require_finite(amount)
        if not mask.any():
            continue
        window, shifted, distance = _shift(mask, amount, steps)
        claimed = shifted & (distance < nearest[window])
        nearest[window][claimed] = distance[claimed]
        owner[window][claimed] = structure
    return np.stack([owner == structure for structure in range(len(masks))])


def draw_boundary_shift(beta: int, generator: np.random.Generator) -> int:
    """Draw a signed boundary shift: size from U{beta - 3, ..., beta + 3}, at least 1, and a fair sign.

    Args:
        beta: mean size in voxels (or mm), at least 1. The paper uses 5 and 10.
        generator: source of the draw.

    Returns:
        The shift; positive dilates, negative erodes.

    Raises:
        ValueError: if beta is below 1.

    Example:
        >>> import numpy as np
        >>> generator = np.random.default_rng(0)
        >>> [draw_boundary_shift(5, generator) for _ in range(6)]
        [7, 6, -2, -2, -5, -6]

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.

    Deviation:
        The floor of 1 voxel, which matters for beta below 4 only.
    """
    if beta < 1:
        raise ValueError(f"beta must be at least 1, got {beta}.")
    size = max(1, int(generator.integers(beta - 3, beta + 4)))
    return size if generator.random() < 0.5 else -size


def _require_finite(amount: float) -> None:
    if not math.isfinite(amount):
        raise ValueError(f"amount must be finite, got {amount}.")


def _voxel_steps(spacing: Sequence[float] | None, axes: int) -> np.ndarray:
    steps = np.ones(axes) if spacing is None else np.asarray(spacing, dtype=float)
    if steps.shape != (axes,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"spacing must be {axes} positive numbers, one per axis, got {spacing}.")
    return steps


def _window(mask: np.ndarray, margin: np.ndarray) -> Window:
    """Bounding box of a non-empty mask, widened by a margin in voxels as far as the image goes."""
    bounds = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(
        slice(max(0, bound.start - pad), min(size, bound.stop + pad))
        for bound, pad, size in zip(bounds, margin.tolist(), mask.shape, strict=True)
    )


def _shift(mask: np.ndarray, amount: float, steps: np.ndarray) -> tuple[Window, np.ndarray, np.ndarray]:
    """Shift one non-empty mask; work only in the window outside which the result is empty.

    Returns the window, the shifted mask inside it, and there (where shifted) the distance to the original
    mask.
    """
    tolerance = 1e-6 * float(steps.min())
    if amount > 0:
        window = _window(mask, np.minimum(np.ceil(amount / steps), mask.shape).astype(int))
        distance = ndimage.distance_transform_edt(~mask[window], sampling=steps)
        return window, distance <= amount + tolerance, distance
    window = _window(mask, np.ones(mask.ndim, dtype=int))
    kept = mask[window]
    if amount < 0 and not kept.all():  # a mask that fills the image has no boundary
        depth = ndimage.distance_transform_edt(kept, sampling=steps)
        kept = depth > min(-amount + tolerance, depth.max() - tolerance)
    return window, kept, np.zeros(kept.shape)
