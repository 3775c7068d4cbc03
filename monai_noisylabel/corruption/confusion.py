"""Confusion of neighbouring classes: at the border of two structures, one is labelled as the other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, get_args

import numpy as np
from scipy import ndimage

from .model import Draw, Unit, present_structures, require_choice, require_number, spacing_of_unit
from .record import Parameters
from .window import bounding_window, voxel_steps

__all__ = ["ConfusionNoise", "confuse", "neighbouring_pairs"]


@dataclasses.dataclass(frozen=True)
class ConfusionNoise:
    """Two structures that touch are confused at their border: a band of one is labelled as the other.

    One of the pairs that touch is drawn, all equally likely, then which of the two loses the band; see
    :func:`confuse`. Stands for a border that the image does not show, as between the parts of an organ. The
    foreground as a whole stays exact. A case without structures that touch is left as it is.

    Attributes:
        depth: of the band, above 0.
        unit: what the depth counts, ``"voxel"`` or ``"mm"``.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((2, 1, 12), bool)
        >>> masks[0, 0, :6] = masks[1, 0, 6:] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = ConfusionNoise(depth=2).apply(masks, draw, spacing=None, overlap=False)
        >>> drawn["1"], noisy[0, 0].astype(int).tolist()
        ({'given_to': 2, 'depth': 2, 'unit': 'voxel', 'voxels': 2}, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
        >>> drawn["2"]
        {'taken_from': 1, 'depth': 2, 'unit': 'voxel', 'voxels': 2}

    Deviation:
        No paper; a design decision.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    depth: float = 3
    unit: Unit = "voxel"

    def __post_init__(self) -> None:
        require_number("confusion", "depth", self.depth, 0, above=True)
        require_choice("confusion", "unit", self.unit, get_args(Unit))

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream, ``"pair"``, for the case.

        Raises:
            ValueError: for a multi-label label, whose structures do not exclude each other; if the unit is mm and
                there is no spacing.
        """
        if overlap:
            raise ValueError(
                "Noise model 'confusion' needs a multi-class label: structures of a multi-label one are not mistaken "
                "for each other; use 'boundary' or 'spurious' there."
            )
        in_units = spacing_of_unit("confusion", self.unit, spacing)
        drawn: dict[str, dict[str, int | float | str]] = {str(number): {} for number in present_structures(masks)}
        pairs = neighbouring_pairs(masks)
        if not pairs:
            return np.array(masks, dtype=bool), drawn
        generator = draw("pair")
        source, target = generator.permutation(pairs[generator.integers(len(pairs))]).tolist()
        noisy = confuse(masks, source, target, self.depth, in_units)
        voxels = int(np.count_nonzero(noisy[target - 1] & ~masks[target - 1]))
        band: dict[str, int | float | str] = {"depth": self.depth, "unit": self.unit, "voxels": voxels}
        drawn[str(source)] = {"given_to": target, **band}
        drawn[str(target)] = {"taken_from": source, **band}
        return noisy, drawn


def neighbouring_pairs(masks: np.ndarray) -> list[tuple[int, int]]:
    r"""Pairs of structures that touch by a face of a voxel.

    Args:
        masks: binary masks of structures that do not overlap.

    Shape:
        masks (K, \*S).

    Returns:
        Pairs of numbers counted from 1, the smaller first, sorted.

    Example:
        >>> import numpy as np
        >>> label = np.array([[1, 1, 0, 3], [1, 2, 3, 3]])
        >>> neighbouring_pairs(np.stack([label == value for value in (1, 2, 3)]))
        [(1, 2), (2, 3)]
    """
    label = np.einsum("k,k...->...", np.arange(1, len(masks) + 1), np.asarray(masks, dtype=bool))
    pairs: set[tuple[int, int]] = set()
    for axis in range(label.ndim):
        along = np.moveaxis(label, axis, 0)
        here, there = along[:-1], along[1:]
        border = (here != there) & (here > 0) & (there > 0)
        touching = np.unique(np.sort(np.stack([here[border], there[border]]), axis=0), axis=1)
        pairs.update((int(first), int(second)) for first, second in touching.T)
    return sorted(pairs)


def confuse(
    masks: np.ndarray, source: int, target: int, depth: float, spacing: Sequence[float] | None = None
) -> np.ndarray:
    r"""Label a band of one structure, along the border that it shares with another, as the other.

    With d(v, B) the distance between voxel centres from v to the nearest voxel of B, and B the voxels of the
    target that touch the source by a face,

    .. math:: y'(v) = \text{target} \quad\text{where}\quad y(v) = \text{source},\ d(v, B) \le \text{depth},

    so that a straight border moves by the depth. Parts of the source that are near the target but not at the
    shared border stay. A band that would take all of the source leaves its voxels farthest from the border.
    Structures that do not touch are left as they are.

    Args:
        masks: binary masks of structures that do not overlap. They are not changed.
        source: number, counted from 1, of the structure that loses the band.
        target: number of the structure that gains it.
        depth: of the band, in voxels, or in mm when ``spacing`` is given; above 0.
        spacing: voxel size in mm along each axis.

    Shape:
        masks (K, \*S); result the same, of bool.

    Raises:
        ValueError: if the numbers are not those of two different structures, if the depth is not above 0 and
            finite, and if the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0]], bool)
        >>> confuse(masks, 1, 2, 3).astype(int).tolist()
        [[1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 0]]
        >>> confuse(masks, 2, 1, 3).astype(int).tolist()
        [[1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]
    """
    masks = np.asarray(masks, dtype=bool)
    if source == target or not {source, target} <= set(range(1, len(masks) + 1)):
        raise ValueError(f"source and target must be two of the structures 1 to {len(masks)}, got {source}, {target}.")
    if not 0 < depth < math.inf:
        raise ValueError(f"depth must be above 0 and finite, got {depth}.")
    steps = voxel_steps(spacing, masks.ndim - 1)
    noisy = masks.copy()
    if not masks[source - 1].any():
        return noisy
    window = bounding_window(masks[source - 1], 1)
    losing, gaining = masks[source - 1][window], masks[target - 1][window]
    border = gaining & ndimage.binary_dilation(losing)
    if border.any():
        distance = ndimage.distance_transform_edt(~border, sampling=steps)
        tolerance = 1e-6 * float(steps.min())
        band = losing & (distance < min(depth + tolerance, distance[losing].max() - tolerance))
        noisy[source - 1][window] &= ~band
        noisy[target - 1][window] |= band
    return noisy
