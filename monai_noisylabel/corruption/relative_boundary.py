"""Relative boundary noise: a structure annotated too large or too small by a share of its own volume."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, get_args

import numpy as np
from scipy import ndimage

from .boundary import Direction
from .model import Draw, present_structures, require_choice, require_flag, require_number
from .nearest import nearest_voxels
from .painting import keep_present, paint
from .record import Parameters
from .window import voxel_steps

__all__ = ["RelativeBoundaryNoise", "change_volume", "change_volumes"]


@dataclasses.dataclass(frozen=True)
class RelativeBoundaryNoise:
    r"""Every structure is annotated too large or too small by the same share of its volume.

    Structures are changed with :func:`change_volumes`. An annotator zooms until an object fills the screen, so
    errors grow with the object; for errors of a fixed distance see
    :class:`~monai_noisylabel.corruption.boundary.BoundaryNoise`.

    Attributes:
        beta: share of the volume, above 0; the papers use 0.5 and 0.7. Erosion keeps at least one voxel.
        direction: ``"both"`` (dilation and erosion equally likely, drawn per structure), ``"dilate"`` or
            ``"erode"``.
        released: change volumes as the public code of Li et al. does, see :func:`change_volume`.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 32, 32), bool)
        >>> masks[0, 8:24, 8:24] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = RelativeBoundaryNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, int(noisy.sum()) - 256
        ({'1': {'ratio': -0.7, 'achieved': -0.6992}}, -179)

    References:
        S. Li et al., Superpixel-Guided Iterative Learning from Noisy Labels for Medical Image Segmentation,
        section 3.1.
        A. Gonzalez-Jimenez et al., Robust T-Loss for Medical Image Segmentation.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    beta: float = 0.7
    direction: Direction = "both"
    released: bool = False

    def __post_init__(self) -> None:
        require_number("relative_boundary", "beta", self.beta, 0, above=True)
        require_choice("relative_boundary", "direction", self.direction, get_args(Direction))
        require_flag("relative_boundary", "released", self.released)

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream per structure."""
        ratios = [self._signed_ratio(draw(number)) for number in range(1, len(masks) + 1)]
        noisy = change_volumes(masks, ratios, spacing, overlap=overlap, released=self.released)
        drawn: Parameters = {
            str(number): {
                "ratio": ratios[number - 1],
                "achieved": round(float(noisy[number - 1].sum() / masks[number - 1].sum() - 1), 4),
            }
            for number in present_structures(masks)
        }
        return noisy, drawn

    def _signed_ratio(self, generator: np.random.Generator) -> float:
        outwards = self.direction == "dilate" or (self.direction == "both" and generator.random() < 0.5)
        return self.beta if outwards else -self.beta


def change_volume(
    mask: np.ndarray, ratio: float, spacing: Sequence[float] | None = None, *, released: bool = False
) -> np.ndarray:
    r"""Make one structure larger or smaller by a share of its volume, at its boundary.

    With A the number of voxels of the structure M, n = int(\|ratio\| A) voxels are added or removed: the n
    voxels of smallest Euclidean distance to M (dilation) or to its complement (erosion), of equally near ones
    the first in raster order. The volume is therefore exact. Where fewer than n voxels are free, all are taken;
    erosion leaves at least one voxel. The border of the image is no boundary, unless the structure fills the
    image and so has no other.

    Args:
        mask: binary mask of one structure. It is not changed.
        ratio: share of the volume, positive to dilate and negative to erode.
        spacing: voxel size in mm along each axis, in which distances are measured; None measures in voxels.
        released: change it in the steps of the public code instead: repeat a step to the face neighbours (4 in
            2D, 6 in 3D) until the volume is reached, and take the nearer of the last two masks, but never an
            empty or a full one. The volume is then met to within half a step, and the border of the image is a
            boundary to erosion. The spacing is not used.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Raises:
        ValueError: if the ratio is not finite, or the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> mask = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0], bool)
        >>> change_volume(mask, 0.75).astype(int).tolist()
        [0, 1, 1, 1, 1, 1, 1, 1, 0]
        >>> change_volume(mask, -0.75).astype(int).tolist()
        [0, 0, 0, 0, 0, 1, 0, 0, 0]
        >>> change_volume(mask, 0.75, released=True).astype(int).tolist()
        [0, 1, 1, 1, 1, 1, 1, 1, 1]

    References:
        S. Li et al., Superpixel-Guided Iterative Learning from Noisy Labels for Medical Image Segmentation,
        section 3.1.

    Deviation:
        The public code grows by face neighbours, so diamonds from points, and misses the volume by up to half a
        step; ``released=True`` gives its masks.
    """
    mask = np.asarray(mask, dtype=bool)
    _require_finite(ratio)
    steps = voxel_steps(spacing, mask.ndim)
    if not mask.any():
        return mask.copy()
    if released:
        return _released(mask, ratio)
    result = mask.copy()
    _resize(result, mask, ~mask, _target(mask, ratio), steps)
    return result


def change_volumes(
    masks: np.ndarray,
    ratios: Sequence[float],
    spacing: Sequence[float] | None = None,
    *,
    overlap: bool = False,
    released: bool = False,
) -> np.ndarray:
    r"""Make every structure of a case larger or smaller by its own share.

    Without overlap, structures are settled from the last to the first, since inner ones have the higher
    numbers (a tumour inside a liver, the left ventricle inside the myocardium). Structure k starts from those of
    its voxels that no later structure has taken. It then grows, nearest to its original mask first and into
    anything not taken, or shrinks, nearest to its boundary first, until it has exactly the volume that
    :func:`change_volume` would give it: what it lost to a later structure it regains further out. Where no
    free voxel is left it stays smaller; it never vanishes.

    Args:
        masks: binary masks, one per structure. They are not changed.
        ratios: signed share of the volume for each structure, see :func:`change_volume`.
        spacing: voxel size in mm along each axis, in which distances are measured; None measures in voxels.
        overlap: whether structures may overlap (multi-label); if not, the given masks must not overlap either.
        released: change each structure as the public code does; without overlap, the later of two structures
            wins a voxel that both want.

    Shape:
        masks (K, \*S) with K of at least 1; result the same, of bool.

    Raises:
        ValueError: if there is not one ratio per structure, or for the reasons of :func:`change_volume`.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[0, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0]], bool)
        >>> change_volumes(masks, [0.5, 1.0]).astype(int).tolist()
        [[1, 1, 0, 0, 0, 0, 1, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
        >>> change_volumes(masks, [0.5, 1.0], overlap=True).astype(int).tolist()
        [[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]

    Deviation:
        The papers corrupt one structure at a time; the rule for several is a design decision.
    """
    masks = np.asarray(masks, dtype=bool)
    if len(ratios) != len(masks):
        raise ValueError(f"{len(masks)} structures need as many ratios, got {len(ratios)}.")
    if overlap or released:
        pairs = zip(masks, ratios, strict=True)
        alone = np.stack([change_volume(mask, ratio, spacing, released=released) for mask, ratio in pairs])
        return alone if overlap else paint(alone, masks)
    steps = voxel_steps(spacing, masks.ndim - 1)
    result = np.zeros_like(masks)
    free = np.ones(masks.shape[1:], dtype=bool)
    for mask, ratio, settled in list(zip(masks, ratios, result, strict=True))[::-1]:
        _require_finite(ratio)
        if mask.any():
            settled |= mask & free
            _resize(settled, mask, free & ~mask, _target(mask, ratio), steps)
            free &= ~settled
    return keep_present(result, masks, overlap=False)


def _require_finite(ratio: float) -> None:
    if not math.isfinite(ratio):
        raise ValueError(f"ratio must be finite, got {ratio}.")


def _target(mask: np.ndarray, ratio: float) -> int:
    volume = int(np.count_nonzero(mask))
    change = int(abs(ratio) * volume)
    return volume + change if ratio > 0 else max(1, volume - change)


def _resize(settled: np.ndarray, original: np.ndarray, free: np.ndarray, target: int, steps: np.ndarray) -> None:
    """Bring a mask to its target volume in place: free voxels nearest to the original, or its own at its boundary."""
    change = target - int(np.count_nonzero(settled))
    if change > 0:
        window, nearest = nearest_voxels(original, free, change, steps)
        settled[window] |= nearest
    elif change < 0:
        window, outermost = nearest_voxels(settled, settled, -change, steps, inwards=True)
        settled[window] &= ~outermost


def _released(mask: np.ndarray, ratio: float) -> np.ndarray:
    """Volume change of the public code: layers of face neighbours, which are city-block distances."""
    volume = int(np.count_nonzero(mask))
    change = int(abs(ratio) * volume)
    if change == 0:
        return mask.copy()
    if ratio > 0:
        layer = ndimage.distance_transform_cdt(~mask, "taxicab")
        sizes = np.cumsum(np.bincount(layer.ravel()))
        return layer <= _released_steps(sizes, volume + change, excluded=mask.size)
    layer = ndimage.distance_transform_cdt(np.pad(mask, 1), "taxicab")[(slice(1, -1),) * mask.ndim]
    sizes = volume - np.cumsum(np.bincount(layer[mask]))
    return layer > _released_steps(sizes, volume - change, excluded=0)


def _released_steps(sizes: np.ndarray, target: int, *, excluded: int) -> int:
    """Number of steps after which the size is nearest to the target; only the first past it and the one before count.

    Sizes are those after 0, 1, ... steps; they go towards the target and end at the excluded size.
    """
    past = (sizes >= target) if sizes[-1] >= sizes[0] else (sizes <= target)
    last = int(np.argmax(past)) if past.any() else len(sizes) - 1
    before = sizes[last] == excluded or abs(sizes[last - 1] - target) < abs(sizes[last] - target)
    return last - int(before)
