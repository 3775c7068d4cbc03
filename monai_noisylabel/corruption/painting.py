"""One label from structures that were corrupted each by itself: who wins a voxel, and how none is lost."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .window import bounding_window

__all__ = ["deepest_voxel", "keep_present", "paint"]


def paint(wanted: np.ndarray, clean: np.ndarray) -> np.ndarray:
    r"""Paint structures over one another, as a multi-class label needs: a later structure wins.

    A tumour inside a liver, or the left ventricle inside the myocardium, has the higher number and so stays
    whole. What a structure leaves behind is background unless another one wants it. No structure of the case
    vanishes, see :func:`keep_present`.

    Args:
        wanted: masks that the structures would have by themselves; they may overlap.
        clean: masks before the corruption, which do not overlap.

    Shape:
        wanted and clean (K, \*S); result the same, of bool, without overlap.

    Example:
        >>> import numpy as np
        >>> clean = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]], bool)
        >>> paint(np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], bool), clean).astype(int).tolist()
        [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]]
    """
    painted = np.array(wanted, dtype=bool)
    covered = np.zeros(painted.shape[1:], dtype=bool)
    for mask in painted[::-1]:
        mask &= ~covered
        covered |= mask
    return keep_present(painted, clean, overlap=False)


def keep_present(noisy: np.ndarray, clean: np.ndarray, *, overlap: bool) -> np.ndarray:
    r"""Give every structure that vanished its deepest voxel back.

    Args:
        noisy: masks after the corruption.
        clean: masks before it; without overlap they do not overlap.
        overlap: whether structures may overlap; if not, the voxel is taken from the structure that holds it.

    Shape:
        noisy and clean (K, \*S); result the same, of bool.

    Example:
        >>> import numpy as np
        >>> clean = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]], bool)
        >>> noisy = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
        >>> keep_present(noisy, clean, overlap=False).astype(int).tolist()
        [[1, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0]]
    """
    kept = np.array(noisy, dtype=bool)
    present = [number for number, mask in enumerate(clean) if mask.any()]
    # A voxel given back can be the last one of a third structure, which then gets its own: these differ.
    while vanished := [number for number in present if not kept[number].any()]:
        for number in vanished:
            voxel = deepest_voxel(clean[number])
            if not overlap:
                for mask in kept:
                    mask[voxel] = False
            kept[number][voxel] = True
    return kept


def deepest_voxel(mask: np.ndarray) -> tuple[int, ...]:
    r"""The voxel of a structure that is farthest from its boundary; of several, the first in raster order.

    Args:
        mask: binary mask that is not empty. The border of the image is no boundary.

    Shape:
        mask (\*S).

    Example:
        >>> import numpy as np
        >>> deepest_voxel(np.array([[0, 1, 1, 1, 1, 0]], bool))
        (0, 2)
    """
    window = bounding_window(mask, 1)
    inside = mask[window]
    depth = inside if inside.all() else ndimage.distance_transform_edt(inside)
    deepest = np.unravel_index(int(np.argmax(depth)), inside.shape)
    return tuple(bound.start + int(index) for bound, index in zip(window, deepest, strict=True))
