"""What the mask of a structure is like, as far as a check without a model asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from monai_noisylabel.corruption.window import bounding_window
from monai_noisylabel.data.case_label import CaseLabel

__all__ = ["label_facts", "nearest_middle", "shape_facts"]

KEPT = 20
SAME = 0.5
"""Neighbours of a gap belong to one structure if they share half of the smaller one."""


def label_facts(label: CaseLabel) -> list[dict[str, Any]]:
    """:func:`shape_facts` of every structure of a label."""
    foreground = np.asarray(label.masks.any(0))
    return [shape_facts(mask, foreground, label.spacing) for mask in label.masks]


def shape_facts(mask: np.ndarray, foreground: np.ndarray, spacing: Sequence[float]) -> dict[str, Any]:
    r"""Measure one structure of one case.

    Args:
        mask: its voxels.
        foreground: voxels of any structure; they fill no hole that counts.
        spacing: voxel size along each axis.

    Shape:
        mask, foreground (\*S).

    Returns:
        Plain values: ``voxels``; ``volume`` in the unit of the spacing; ``centre`` as fractions of the image and
        ``middle`` as voxel index; ``components``, their number, and ``islands``, the ``voxels`` and ``middle`` of the
        largest of all but the first; ``holes``, the same of the background that it encloses; ``gaps``, where it is
        absent from a single slice along an ``axis`` between two that continue each other: ``index``, ``middle``, and
        ``voxels``, the mean of its neighbours.

    Example:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[1:8, 1:4] = mask[8, 8] = True
        >>> mask[4, 2] = mask[6, :] = False
        >>> facts = shape_facts(mask, mask, (1.0, 1.0))
        >>> facts["components"], facts["islands"], facts["holes"]
        (3, [{'voxels': 3, 'middle': [7, 2]}, {'voxels': 1, 'middle': [8, 8]}], [{'voxels': 1, 'middle': [4, 2]}])
        >>> facts["gaps"]
        [{'axis': 0, 'index': 6, 'voxels': 3, 'middle': [6, 2]}]
    """
    voxels = int(np.count_nonzero(mask))
    if not voxels:
        return {"voxels": 0, "volume": 0.0, "components": 0, "islands": [], "holes": [], "gaps": []}
    window = bounding_window(mask)
    start = [part.start for part in window]
    inside = mask[window]
    everywhere = np.ones((3,) * mask.ndim, bool)
    pieces, count = ndimage.label(inside, everywhere)
    holes, hole_count = ndimage.label(ndimage.binary_fill_holes(inside) & ~foreground[window])
    centre = np.array([float(places.mean()) for places in np.nonzero(inside)]) + start
    return {
        "voxels": voxels,
        "volume": voxels * float(np.prod(spacing)),
        "centre": [float(c / max(size - 1, 1)) for c, size in zip(centre, mask.shape, strict=True)],
        "middle": nearest_middle(inside, start),
        "components": count,
        "islands": _largest(pieces, count, start)[1:],
        "holes": _largest(holes, hole_count, start),
        "gaps": [gap for axis in range(mask.ndim) for gap in _gaps(inside, axis, start)],
    }


def _largest(labelled: np.ndarray, count: int, start: Sequence[int]) -> list[dict[str, Any]]:
    """Size and middle of the largest components."""
    if not count:
        return []
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labelled)
    found = []
    for index in np.argsort(-sizes, kind="stable")[:KEPT]:
        box = boxes[index]
        offset = [part.start + first for part, first in zip(box, start, strict=True)]
        found.append({"voxels": int(sizes[index]), "middle": nearest_middle(labelled[box] == index + 1, offset)})
    return found


def nearest_middle(mask: np.ndarray, start: Sequence[int]) -> list[int]:
    """The voxel of a mask that is nearest to its centre of mass."""
    places = np.argwhere(mask)
    nearest = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return [int(n + first) for n, first in zip(nearest, start, strict=True)]


def _gaps(mask: np.ndarray, axis: int, start: Sequence[int]) -> list[dict[str, Any]]:
    slices = np.moveaxis(mask, axis, 0)
    areas = slices.reshape(len(slices), -1).sum(1)
    found = []
    for index in range(1, len(slices) - 1):
        below, above = slices[index - 1], slices[index + 1]
        common = below & above
        if areas[index] or common.sum() <= SAME * min(areas[index - 1], areas[index + 1]) or not common.any():
            continue
        middle = nearest_middle(common, [first for other, first in enumerate(start) if other != axis])
        middle.insert(axis, index + start[axis])
        voxels = int((areas[index - 1] + areas[index + 1]) // 2)
        found.append({"axis": axis, "index": index + start[axis], "voxels": voxels, "middle": middle})
    return found
