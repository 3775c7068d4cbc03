"""Absolute boundary noise: a structure annotated too large or too small by a fixed distance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import numpy as np
from scipy import ndimage

from .model import Draw, Unit, present_structures, require_choice, require_number, spacing_of_unit
from .record import Parameters
from .window import Window, bounding_window, voxel_steps

__all__ = ["BoundaryNoise", "Direction", "draw_boundary_shift", "shift_boundaries", "shift_boundary"]

Direction = Literal["both", "dilate", "erode"]
"""Which way the boundary errs: either way equally likely, always outwards, or always inwards."""


@dataclasses.dataclass(frozen=True)
class BoundaryNoise:
    r"""Every structure is annotated too large or too small by a distance of its own.

    The distance is drawn with :func:`draw_boundary_shift` and applied with :func:`shift_boundaries`. The error
    is the same in voxels for a large and for a small structure; see
    :class:`~monai_noisylabel.corruption.relative_boundary.RelativeBoundaryNoise` for errors in proportion.

    Attributes:
        beta: mean size of the shift, an integer of at least 1; the paper uses 5 and 10 pixels.
        unit: what beta counts, ``"voxel"`` or ``"mm"``.
        direction: ``"both"`` (dilation and erosion equally likely, as in the paper), ``"dilate"`` or
            ``"erode"``, which shift by the same sizes one way only.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 32, 32), bool)
        >>> masks[0, 8:24, 8:24] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = BoundaryNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, int(noisy.sum())
        ({'1': {'shift': 7, 'unit': 'voxel'}}, 824)

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    beta: int = 5
    unit: Unit = "voxel"
    direction: Direction = "both"

    def __post_init__(self) -> None:
        require_number("boundary", "beta", self.beta, 1, integer=True)
        require_choice("boundary", "unit", self.unit, get_args(Unit))
        require_choice("boundary", "direction", self.direction, get_args(Direction))

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream per structure.

        Raises:
            ValueError: if the unit is mm and there is no spacing.
        """
        in_units = spacing_of_unit("boundary", self.unit, spacing)
        numbers = range(1, len(masks) + 1)
        shifts = [self._directed(draw_boundary_shift(self.beta, draw(number))) for number in numbers]
        drawn: Parameters = {
            str(number): {"shift": shifts[number - 1], "unit": self.unit} for number in present_structures(masks)
        }
        return shift_boundaries(masks, shifts, in_units, overlap=overlap), drawn

    def _directed(self, shift: int) -> int:
        return {"both": shift, "dilate": abs(shift), "erode": -abs(shift)}[self.direction]


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
    steps = voxel_steps(spacing, mask.ndim)
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
    steps = voxel_steps(spacing, masks.ndim - 1)
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


def _shift(mask: np.ndarray, amount: float, steps: np.ndarray) -> tuple[Window, np.ndarray, np.ndarray]:
    """Shift one non-empty mask; work only in the window outside which the result is empty.

    Returns the window, the shifted mask inside it, and there (where shifted) the distance to the original
    mask.
    """
    tolerance = 1e-6 * float(steps.min())
    if amount > 0:
        window = bounding_window(mask, np.minimum(np.ceil(amount / steps), mask.shape).astype(int))
        distance = ndimage.distance_transform_edt(~mask[window], sampling=steps)
        return window, distance <= amount + tolerance, distance
    window = bounding_window(mask, np.ones(mask.ndim, dtype=int))
    kept = mask[window]
    if amount < 0 and not kept.all():  # a mask that fills the image has no boundary
        depth = ndimage.distance_transform_edt(kept, sampling=steps)
        kept = depth > min(-amount + tolerance, depth.max() - tolerance)
    return window, kept, np.zeros(kept.shape)
