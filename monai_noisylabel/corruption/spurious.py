"""Spurious component noise: something in the background is annotated as one more part of a structure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy import ndimage

from .model import Draw, present_structures, require_number
from .nearest import smallest, unit_ball_volume
from .record import Parameters
from .window import bounding_window, voxel_steps

__all__ = ["SpuriousNoise", "add_component", "ellipsoid"]

TRIES = 64


@dataclasses.dataclass(frozen=True)
class SpuriousNoise:
    """Every structure gets one more component, an ellipsoid in the background; see :func:`add_component`.

    Stands for a false finding: a vessel taken for a lesion, a second object where there is one. The structure
    itself stays exact. In a multi-class label the component overlaps no structure; in a multi-label one it may lie
    on the others.

    Attributes:
        size: volume of the component / volume of the structure, above 0.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 64, 64), bool)
        >>> masks[0, 24:40, 24:40] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = SpuriousNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, int(noisy.sum()) - 256
        ({'1': {'requested': 76, 'voxels': 76, 'centre': [49, 7]}}, 76)

    Deviation:
        No paper; a design decision.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    size: float = 0.3

    def __post_init__(self) -> None:
        require_number("spurious", "size", self.size, 0, above=True)

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream per structure."""
        noisy = np.array(masks, dtype=bool)
        drawn: dict[str, dict[str, int | list[int]]] = {}
        for number in present_structures(masks):
            requested = max(1, int(self.size * np.count_nonzero(masks[number - 1])))
            occupied = masks[number - 1] if overlap else noisy.any(axis=0)
            free = np.logical_not(occupied)
            noisy[number - 1], centre = add_component(masks[number - 1], free, requested, draw(number), spacing)
            voxels = int(np.count_nonzero(noisy[number - 1] & free))
            drawn[str(number)] = {"requested": requested, "voxels": voxels, "centre": list(centre)}
        return noisy, drawn


def add_component(
    mask: np.ndarray,
    free: np.ndarray,
    voxels: int,
    generator: np.random.Generator,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    r"""Add an ellipsoid of a given number of voxels to a structure, somewhere in free space and apart from it.

    The ellipsoid of :func:`ellipsoid`, its semi-axes in random proportion (each from U(0.5, 1)) and its
    orientation random, is put at a voxel drawn from those that are free and do not touch the structure by face,
    edge or corner. All its voxels must be such, inside the image. After 64 places where it does not fit its
    volume is halved, down to a single voxel; where there is no room even for that, nothing is added.

    Args:
        mask: binary mask of the structure. It is not changed.
        free: where the component may be, such as the background.
        voxels: its volume, at least 1.
        generator: source of the draws.
        spacing: voxel size in mm along each axis, in which it is an ellipsoid; None stands for ones.

    Shape:
        mask and free (\*S), S of 2 or 3 axes; result the same, of bool.

    Returns:
        The mask with the component, and the voxel at its centre; an empty tuple if there was no room.

    Raises:
        ValueError: if voxels is below 1, or the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((6, 8), bool)
        >>> mask[1:3, 1:3] = True
        >>> noisy, centre = add_component(mask, ~mask, 5, np.random.default_rng(2))
        >>> centre
        (1, 6)
        >>> print(noisy.astype(int))
        [[0 0 0 0 0 0 1 0]
         [0 1 1 0 0 1 1 1]
         [0 1 1 0 0 0 1 0]
         [0 0 0 0 0 0 0 0]
         [0 0 0 0 0 0 0 0]
         [0 0 0 0 0 0 0 0]]
    """
    mask = np.asarray(mask, dtype=bool)
    if voxels < 1:
        raise ValueError(f"voxels must be at least 1, got {voxels}.")
    steps = voxel_steps(spacing, mask.ndim)
    room = _apart(mask, free)
    places = np.count_nonzero(room.reshape(len(room), -1), axis=1)
    result = mask.copy()
    while voxels and places.any():
        component = ellipsoid(voxels, steps, generator)
        for _ in range(TRIES):
            centre = _drawn_voxel(room, places, generator)
            positions = centre + component
            if ((positions >= 0) & (positions < mask.shape)).all() and room[tuple(positions.T)].all():
                result[tuple(positions.T)] = True
                return result, tuple(centre.tolist())
        voxels //= 2
    return result, ()


def ellipsoid(voxels: int, steps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    r"""Random ellipsoid with an exact number of voxels, by their offsets from the one at its centre.

    With semi-axes a_i from U(0.5, 1) and a random rotation Q, it holds the voxels x of smallest

    .. math:: \sum_i \big( (Q^T x)_i / a_i \big)^2,

    of equal ones the first in raster order.

    Args:
        voxels: its number of voxels, at least 1.
        steps: length of a voxel step along each axis; x is measured in it.
        generator: source of the draws.

    Shape:
        steps one per axis; result (voxels, axes), of int.

    Example:
        >>> import numpy as np
        >>> ellipsoid(5, np.ones(2), np.random.default_rng(0)).tolist()
        [[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]]
    """
    axes = len(steps)
    semi_axes = generator.uniform(0.5, 1, axes)
    rotation = np.linalg.qr(generator.standard_normal((axes, axes)))[0]
    scale = (voxels * steps.prod() / (unit_ball_volume(axes) * semi_axes.prod())) ** (1 / axes)
    extent = scale * np.sqrt((rotation * semi_axes) ** 2 @ np.ones(axes)) / steps
    radius = np.ceil(extent).astype(int) + 1
    offset = np.moveaxis(np.indices(2 * radius + 1), 0, -1) - radius
    squared = (((offset * steps) @ rotation / semi_axes) ** 2).sum(-1)
    chosen = smallest(squared, np.ones(squared.shape, dtype=bool), voxels)
    return offset[chosen]


def _apart(mask: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Where free space does not touch a structure by face, edge or corner."""
    room = np.array(free, dtype=bool)
    if mask.any():
        window = bounding_window(mask, 1)
        room[window] &= ~ndimage.maximum_filter(mask[window], 3)
    return room


def _drawn_voxel(room: np.ndarray, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A voxel of the room, all equally likely; places holds their number in each plane of the first axis."""
    plane = int(generator.choice(len(places), p=places / places.sum()))
    inside = np.argwhere(room[plane])
    return np.array([plane, *inside[generator.integers(len(inside))]])
