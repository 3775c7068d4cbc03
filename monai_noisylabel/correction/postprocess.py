"""Post-processing of a corrected label: small components go, small holes are filled."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from monai_noisylabel.masks import Array

__all__ = ["clean_up", "clean_up_label"]

_Box = tuple[slice, ...]


def clean_up(mask: np.ndarray, *, min_component: float = 0.1, max_hole: float = 0.1) -> np.ndarray:
    r"""Drop small connected components of a binary mask, then fill its small holes.

    Components smaller than ``min_component`` of the foreground are dropped; holes smaller than ``max_hole``
    of the foreground that is left are filled. Components touch by faces, edges or corners. A hole is a piece
    of background, connected by faces, that the mask shuts off from the border of the map.

    Robust to crumbs and pinholes of voxel-wise correction. Not to be used on structures that come in many
    parts of unlike size (metastases, vessels), or lower ``min_component`` there.

    Args:
        mask: bool mask of one structure, 2D or 3D.
        min_component: smallest component that stays, as a fraction of the foreground in [0, 1], paper 0.1.
        max_hole: holes smaller than this fraction of the foreground are filled, in [0, 1], paper 0.1.

    Returns:
        A new mask.

    Shape:
        mask and result (\*S).

    Raises:
        ValueError: if the mask is not a bool array or a fraction is outside [0, 1].

    Example:
        >>> ring = np.ones((5, 5), dtype=bool)
        >>> ring[2, 2] = False
        >>> mask = np.zeros((9, 9), dtype=bool)
        >>> mask[:5, :5], mask[8, 8] = ring, True
        >>> cleaned = clean_up(mask)
        >>> int(mask.sum()), int(cleaned.sum()), bool(cleaned[2, 2]), bool(cleaned[8, 8])
        (25, 25, True, False)

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.

    Deviation:
        The largest component always stays, with any other of its size: the paper's rule would empty a mask of
        more than ten equal parts. The paper leaves connectivity open, and which foreground a hole is compared
        with.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise ValueError(f"mask must be a bool array, got {getattr(mask, 'dtype', type(mask).__name__)}.")
    _check_fractions(min_component, max_hole)
    result = np.zeros_like(mask)
    box = _bounding_box(mask)
    if box is None:
        return result
    kept = _without_crumbs(mask[box], min_component)
    result[box] = kept | (_hole_sizes(kept, max_hole) > 0)
    return result


def clean_up_label(
    label: Array,
    num_classes: int,
    multi_label: bool = False,
    *,
    min_component: float = 0.1,
    max_hole: float = 0.1,
) -> Array:
    r""":func:`clean_up` for every foreground class of a label.

    In a multi-class label, the components of all classes are dropped first, to background; a filled hole then
    only overwrites background, and where holes of several classes lie in each other the smallest decides.

    Args:
        label: multi-class or multi-label label of whole numbers, array or tensor on any device.
        num_classes: multi-class: number of classes including background; multi-label: number of channels.
        multi_label: whether the label has one binary channel per structure.
        min_component: see :func:`clean_up`.
        max_hole: see :func:`clean_up`.

    Returns:
        A new label in the same form, uint8; a tensor for a tensor, on its device.

    Shape:
        label and result (1, \*S) for multi-class, (K, \*S) for multi-label.

    Raises:
        ValueError: if the number of channels or a class value does not fit, or a fraction is outside [0, 1].

    Example:
        >>> label = np.array([[[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 2]]])
        >>> clean_up_label(label, num_classes=3, max_hole=0.2).tolist()
        [[[1, 1, 1, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 2]]]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.
    """
    if isinstance(label, torch.Tensor):
        array = label.as_subclass(torch.Tensor).cpu().numpy()
        cleaned = clean_up_label(array, num_classes, multi_label, min_component=min_component, max_hole=max_hole)
        return torch.from_numpy(cleaned).to(label.device)
    channels = num_classes if multi_label else 1
    if label.shape[0] != channels:
        raise ValueError(f"label must have {channels} channel(s), got shape {label.shape}.")
    largest = 1 if multi_label else num_classes - 1
    if label.size and (label.min() < 0 or label.max() > largest):
        raise ValueError(f"label must hold values 0 to {largest}, found {np.unique(label).tolist()}.")
    _check_fractions(min_component, max_hole)
    if multi_label:
        parts = [clean_up(channel > 0, min_component=min_component, max_hole=max_hole) for channel in label]
        return np.stack(parts).astype(np.uint8)
    return _clean_up_multi_class(label[0].astype(np.uint8), min_component, max_hole)[None]


def _clean_up_multi_class(label: np.ndarray, min_component: float, max_hole: float) -> np.ndarray:
    result = np.zeros_like(label)
    kept: list[tuple[int, _Box]] = []
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is not None:
            result[box][_without_crumbs(label[box] == value, min_component)] = value
            kept.append((value, box))
    filling = np.zeros_like(label)
    smallest = np.full(label.shape, np.iinfo(np.int64).max)
    for value, box in kept:
        sizes = _hole_sizes(result[box] == value, max_hole)
        decides = (sizes > 0) & (sizes < smallest[box])
        smallest[box][decides] = sizes[decides]
        filling[box][decides] = value
    return np.where(result == 0, filling, result)


def _check_fractions(min_component: float, max_hole: float) -> None:
    for name, fraction in (("min_component", min_component), ("max_hole", max_hole)):
        if not 0 <= fraction <= 1:
            raise ValueError(f"{name} is a fraction of the foreground in [0, 1], got {fraction}.")


def _bounding_box(mask: np.ndarray) -> _Box | None:
    """Smallest box around the foreground, by shrinking projections; None for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _without_crumbs(mask: np.ndarray, min_component: float) -> np.ndarray:
    labelled, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    if count == 1:
        return mask
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    stays = (sizes >= min(min_component * sizes.sum(), sizes.max())) & (sizes > 0)
    return stays[labelled]


def _hole_sizes(mask: np.ndarray, max_hole: float) -> np.ndarray:
    """Size of the small hole each voxel lies in, 0 elsewhere."""
    outside_and_holes = np.pad(~mask, 1, constant_values=True)
    labelled, count = ndimage.label(outside_and_holes)
    inner = labelled[(slice(1, -1),) * mask.ndim]
    if count == 1:
        return np.zeros(mask.shape, dtype=np.int64)
    sizes = np.bincount(labelled.ravel())
    foreground = sizes[0]
    sizes[:2] = 0  # the mask, and the outside: the first voxel in scan order is padding, so it has index 1
    sizes[sizes >= max_hole * foreground] = 0
    return sizes[inner]
