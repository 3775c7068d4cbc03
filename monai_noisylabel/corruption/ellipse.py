"""Ellipse noise: every object outlined by the ellipse, or ellipsoid, that has its moments."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy import ndimage

from .model import Draw, present_structures
from .painting import paint
from .record import Parameters

__all__ = ["EllipseNoise", "moment_ellipse", "replace_by_ellipses"]


@dataclasses.dataclass(frozen=True)
class EllipseNoise:
    """Every connected component of every structure is outlined by an ellipse; see :func:`replace_by_ellipses`.

    Stands for a quick annotation with an ellipse tool. Nothing is drawn, so the error is the same each time a
    case is corrupted. Round structures keep an almost clean label; do not use it on hollow ones such as a ring,
    whose ellipse is larger than they are.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 32, 32), bool)
        >>> masks[0, 8:24, 8:24] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = EllipseNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, int(noisy.sum()), int((noisy & masks).sum())
        ({'1': {'components': 1}}, 268, 236)

    References:
        X. Guo, Y. Yuan, Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy
        Labels.

    Deviation:
        How the paper made its ellipses is not public; the moments are a design decision.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; nothing is drawn, no spacing is needed."""
        drawn: Parameters = {
            str(number): {"components": _components(masks[number - 1])[1]} for number in present_structures(masks)
        }
        return replace_by_ellipses(masks, overlap=overlap), drawn


def replace_by_ellipses(masks: np.ndarray, *, overlap: bool = False) -> np.ndarray:
    """Replace every connected component of every structure by its moment ellipse.

    The ellipses of one structure are united. Without overlap they are painted in the order of the structures,
    the later over the earlier; a structure that would vanish keeps its deepest voxel, see
    :func:`~monai_noisylabel.corruption.painting.paint`.

    Args:
        masks: binary masks, one per structure. They are not changed.
        overlap: whether structures may overlap (multi-label); if not, the given masks must not overlap either.

    Shape:
        masks (K, \\*S); result the same, of bool.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((2, 7, 10), bool)
        >>> masks[0, :, :7] = np.tri(7)
        >>> masks[1, 5, 7:] = True
        >>> noisy = replace_by_ellipses(masks)
        >>> print(noisy[0] + 2 * noisy[1])
        [[0 0 0 0 0 0 0 0 0 0]
         [1 1 1 0 0 0 0 0 0 0]
         [1 1 1 1 0 0 0 0 0 0]
         [1 1 1 1 1 0 0 0 0 0]
         [1 1 1 1 1 1 0 0 0 0]
         [1 1 1 1 1 1 0 2 2 2]
         [0 1 1 1 1 1 0 0 0 0]]
    """
    masks = np.asarray(masks, dtype=bool)
    ellipses = np.stack([moment_ellipse(mask) for mask in masks])
    return ellipses if overlap else paint(ellipses, masks)


def moment_ellipse(mask: np.ndarray) -> np.ndarray:
    r"""Union of the moment ellipses of the connected components of one structure.

    With mu the mean and Sigma the covariance matrix of a component of d dimensions,

    .. math:: \{v : (v - \mu)^T \Sigma^{-1} (v - \mu) \le d + 2\},

    which is the ellipse, or ellipsoid, that has these moments itself: an ellipse is left as it is. Components
    touch by faces, edges or corners (8 neighbours in 2D, 26 in 3D). The moments are those of the component as a
    set of unit cubes and not of their centres, which adds 1/12 to each variance: a single voxel is left as it is
    and a line stays one voxel wide, where the covariance of the centres would have no inverse. No ellipse is
    empty.

    Args:
        mask: binary mask of one structure. It is not changed. The voxel size does not matter: the ellipse moves
            with the axes.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((5, 7), bool)
        >>> mask[1:4, 1:6] = True
        >>> print(moment_ellipse(mask).astype(int))
        [[0 0 0 0 0 0 0]
         [0 1 1 1 1 1 0]
         [0 1 1 1 1 1 0]
         [0 1 1 1 1 1 0]
         [0 0 0 0 0 0 0]]

    References:
        X. Guo, Y. Yuan, Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy
        Labels.
    """
    mask = np.asarray(mask, dtype=bool)
    components, count = _components(mask)
    ellipse = np.zeros_like(mask)
    for mean, covariance in zip(*_moments(components, count), strict=True):
        half = np.sqrt((mask.ndim + 2) * np.diagonal(covariance))
        low = np.maximum(np.ceil(mean - half).astype(int), 0)
        high = np.minimum(np.floor(mean + half).astype(int) + 1, mask.shape)
        window = tuple(slice(first, last) for first, last in zip(low.tolist(), high.tolist(), strict=True))
        offset = [grid - centre for grid, centre in zip(np.ogrid[window], mean, strict=True)]
        precision = np.linalg.inv(covariance)
        pairs = itertools.product(range(mask.ndim), repeat=2)
        ellipse[window] |= sum(precision[i, j] * offset[i] * offset[j] for i, j in pairs) <= mask.ndim + 2
    return ellipse


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    return ndimage.label(mask, np.ones((3,) * mask.ndim))


def _moments(components: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of every component, of its voxels as unit cubes."""
    positions = np.argwhere(components)
    owner = components[components > 0] - 1
    volume = np.bincount(owner, minlength=count)[:, None]
    axes = range(components.ndim)
    mean = np.stack([np.bincount(owner, positions[:, axis], count) for axis in axes], axis=1) / volume
    offset = positions - mean[owner]
    products = [[np.bincount(owner, offset[:, row] * offset[:, column], count) for column in axes] for row in axes]
    covariance = np.moveaxis(np.array(products), -1, 0) / volume[..., None]
    return mean, covariance + np.eye(components.ndim) / 12
