"""What kind of error the noise of a structure amounts to."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from .window import bounding_window

__all__ = ["ErrorKind", "error_kinds"]

ErrorKind = Literal["none", "contour", "instance", "class_confusion"]


def error_kinds(clean: np.ndarray, noisy: np.ndarray) -> list[ErrorKind]:
    r"""Kind of error of every structure, by what came of it and not by the model that made it.

    The first of these that holds:

    - ``"none"``: the masks are equal.
    - ``"instance"``: a connected component of the clean mask has no voxel in common with the noisy mask, or the
      other way round: something was overlooked, or marked where nothing is. Components touch by corners too.
    - ``"class_confusion"``: more than half of the changed voxels were exchanged with other structures: what this
      one lost another gained, or what it gained another lost.
    - ``"contour"``: the outline differs.

    Args:
        clean: binary masks before, one per structure.
        noisy: binary masks after.

    Shape:
        clean and noisy (K, \*S).

    Example:
        >>> import numpy as np
        >>> clean = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]], bool)
        >>> noisy = np.array([[1, 1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 0, 0]], bool)
        >>> error_kinds(clean, noisy)
        ['instance', 'class_confusion']
    """
    changed = clean ^ noisy
    if not changed.any():
        return ["none"] * len(clean)
    lost_by_any, gained_by_any = (clean & changed).any(0), (noisy & changed).any(0)
    return [
        _kind(before, after, lost_by_any, gained_by_any) if differs.any() else "none"
        for before, after, differs in zip(clean, noisy, changed, strict=True)
    ]


def _kind(clean: np.ndarray, noisy: np.ndarray, lost_by_any: np.ndarray, gained_by_any: np.ndarray) -> ErrorKind:
    """Kind of error of one structure whose masks differ."""
    window = bounding_window(clean | noisy)
    clean, noisy = clean[window], noisy[window]
    if _has_lone_component(clean, noisy) or _has_lone_component(noisy, clean):
        return "instance"
    lost, gained = clean & ~noisy, noisy & ~clean
    exchanged = np.count_nonzero(lost & gained_by_any[window]) + np.count_nonzero(gained & lost_by_any[window])
    changed = np.count_nonzero(lost) + np.count_nonzero(gained)
    return "class_confusion" if 2 * exchanged > changed else "contour"


def _has_lone_component(mask: np.ndarray, other: np.ndarray) -> bool:
    """Whether a connected component of the mask shares no voxel with the other mask."""
    components, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    return np.unique(components[mask & other]).size < count
