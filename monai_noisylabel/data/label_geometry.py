"""Where the voxels of a training label lie in the world, so that it can return to the original grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from scipy.ndimage import affine_transform

__all__ = ["OUTSIDE", "checked_geometry", "geometry_of", "lifted", "onto_grid", "way_beside"]

OUTSIDE = -1
"""Value that :func:`onto_grid` gives to the voxels which the label says nothing about."""

MAX_SHIFT = 0.5  # of the smallest voxel edge, between the corners of two grids that are taken for one


def geometry_of(label: torch.Tensor) -> dict[str, Any] | None:
    """Training grid of a label as MONAI hands it to the network.

    For a slice cut from a volume, ``label.meta`` must hold ``slice`` and ``volume_shape``, as
    :class:`~monai_noisylabel.data.volume_slices.VolumeSlices` leaves them, and the affine must be that of the
    volume: it maps (i, j, slice) to the world.

    Args:
        label: channel-first label. Anything but a MetaTensor has no known place in the world: None is
            returned.

    Example:
        >>> from monai.data import MetaTensor
        >>> geometry_of(MetaTensor(torch.zeros(1, 4, 5, 6)))["shape"]
        [4, 5, 6]
    """
    if not isinstance(label, MetaTensor):
        return None
    geometry = {
        "affine": lifted(torch.as_tensor(label.affine).cpu().numpy()).tolist(),
        "shape": list(label.shape[1:]),
    }
    if label.meta.get("slice") is not None:
        depth = int(np.asarray(label.meta["volume_shape"]).reshape(-1)[2])
        geometry |= {"shape": [*geometry["shape"], depth], "slice": int(label.meta["slice"])}
    return geometry


def checked_geometry(geometry: Mapping[str, Any], spatial_shape: Sequence[int], case: str) -> dict[str, Any]:
    """A geometry in plain numbers, after checking that it fits the label it belongs to.

    Args:
        geometry: ``affine`` (voxel index to world, 3x3 or 4x4 for an image and 4x4 for a volume), ``shape``
            of the training grid and, for a slice of a volume, ``slice``, its index along the last axis of
            that shape.
        spatial_shape: spatial shape of the label.
        case: names the case in messages.

    Raises:
        ValueError: if something is missing, not finite, or does not fit the label.

    Example:
        >>> checked_geometry({"affine": np.eye(4), "shape": (8, 8, 3), "slice": 2}, (8, 8), "a/002")["slice"]
        2
    """
    unknown = set(geometry) - {"affine", "shape", "slice"}
    if unknown or not {"affine", "shape"} <= set(geometry):
        raise ValueError(
            f"Geometry of case {case!r} needs 'affine', 'shape' and may have 'slice', got {list(geometry)}."
        )
    affine = np.asarray(geometry["affine"], dtype=float)
    if (
        affine.shape not in ((3, 3), (4, 4))
        or not np.isfinite(affine).all()
        or np.linalg.matrix_rank(affine) < len(affine)
    ):
        raise ValueError(f"Geometry of case {case!r}: affine must be an invertible 4x4 matrix, got {affine.tolist()}.")
    shape = [int(size) for size in geometry["shape"]]
    index = geometry.get("slice")
    if shape[: len(spatial_shape)] != list(spatial_shape) or len(shape) != len(spatial_shape) + (index is not None):
        kind = "label" if index is None else "slice"
        raise ValueError(f"Geometry of case {case!r}: shape {shape} does not fit the {kind} of {list(spatial_shape)}.")
    checked: dict[str, Any] = {"affine": lifted(affine).tolist(), "shape": shape}
    if index is not None:
        if not 0 <= int(index) < shape[2]:
            raise ValueError(
                f"Geometry of case {case!r}: slice {index} lies outside the {shape[2]} slices of the volume."
            )
        checked["slice"] = int(index)
    return checked


def onto_grid(
    label: np.ndarray, affine: np.ndarray, target_affine: np.ndarray, target_shape: Sequence[int]
) -> np.ndarray:
    r"""Nearest-neighbour resampling of a label from its grid to another one.

    A target voxel takes the value of the label voxel that its centre lies in, and :data:`OUTSIDE` where there
    is none.

    Args:
        label: class values; :data:`OUTSIDE` marks voxels that nothing is said about.
        affine: voxel index to world of the label, 3x3 (pictures) or 4x4.
        target_affine: the same of the target grid.
        target_shape: spatial shape of the target grid.

    Shape:
        label (\*S); result (\*target_shape) of int16.

    Example:
        >>> onto_grid(np.array([[1, 2]]), np.eye(4), np.diag([1, 0.5, 1, 1]), (1, 4)).tolist()
        [[1, 2, 2, -1]]
    """
    dims = len(target_shape)
    matrix = np.linalg.inv(lifted(affine)) @ lifted(target_affine)
    # Headers hold 32-bit numbers: unrounded, centres between two voxels would fall to either by chance.
    matrix = np.round(matrix, 6)
    result = np.empty(tuple(target_shape), np.int16)
    affine_transform(
        np.asarray(label, np.int16),
        matrix[:dims, :dims],
        matrix[:dims, 3],
        output_shape=result.shape,
        output=result,
        order=0,
        mode="grid-constant",
        cval=OUTSIDE,
    )
    return result


def lifted(affine: np.ndarray) -> np.ndarray:
    """A 4x4 affine of a 3x3 one: the third axis stays as it is.

    Args:
        affine: voxel index to world, 3x3 of a picture or 4x4.

    Example:
        >>> lifted(np.array([[2.0, 0, 5], [0, 3, 6], [0, 0, 1]])).tolist()
        [[2.0, 0.0, 0.0, 5.0], [0.0, 3.0, 0.0, 6.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    affine = np.asarray(affine, dtype=float)
    if affine.shape == (4, 4):
        return affine
    lifted = np.eye(4)
    lifted[:2, :2], lifted[:2, 3] = affine[:2, :2], affine[:2, 2]
    return lifted


def way_beside(affine: np.ndarray, wanted: np.ndarray, shape: Sequence[int]) -> float:
    """How far a grid lies beside another one of its shape, in mm: the largest way between their corners.

    Args:
        affine: voxel index to world, 4x4.
        wanted: that of the other grid.
        shape: number of voxels along each of the three axes.

    Returns:
        The way; 0 where it is half of the other grid's smallest voxel edge or less, which rounding explains.

    Example:
        >>> moved = np.eye(4)
        >>> moved[0, 3] = 2.0
        >>> way_beside(moved, np.eye(4), (4, 5, 6)), way_beside(moved, np.diag([4.0, 4.0, 4.0, 1.0]), (1, 1, 1))
        (2.0, 0.0)
    """
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in shape]), -1)
    apart = np.linalg.norm(apply_affine(affine, corners) - apply_affine(wanted, corners), axis=-1).max()
    return float(apart) if apart > MAX_SHIFT * np.linalg.norm(wanted[:3, :3], axis=0).min() else 0.0
