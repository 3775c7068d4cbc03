"""The two ways to write a segmentation label, and the per-structure masks both stand for.

A *multi-class* label holds one channel of class values, 0 being background; its structures exclude each other. A
*multi-label* label holds one binary channel per structure; its structures may overlap. Code that works per structure
converts to masks, works, and converts back.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)

__all__ = ["from_masks", "to_masks"]


def to_masks(label: Array, num_classes: int | None = None) -> Array:
    """Binary masks of the foreground structures of one label.

    Args:
        label: multi-class label, or multi-label channels when ``num_classes`` is None.
        num_classes: number of classes including background for a multi-class label; None for a multi-label one.

    Shape:
        label (1, \\*S) for multi-class, (K, \\*S) for multi-label; result (K, \\*S) of bool, K = num_classes - 1.

    Raises:
        ValueError: if a multi-class label does not have exactly one channel.

    Example:
        >>> import numpy as np
        >>> to_masks(np.array([[[0, 1, 2]]]), num_classes=3).astype(int).tolist()
        [[[0, 1, 0]], [[0, 0, 1]]]
    """
    if num_classes is None:
        return label > 0
    if label.shape[0] != 1:
        raise ValueError(f"A multi-class label has one channel, got shape {tuple(label.shape)}.")
    masks = [label[0] == value for value in range(1, num_classes)]
    return torch.stack(masks) if isinstance(label, torch.Tensor) else np.stack(masks)


def from_masks(masks: Array, multi_label: bool) -> Array:
    """Write masks back as a label; of overlapping multi-class masks the later structure wins.

    Args:
        masks: binary masks, one per foreground structure.
        multi_label: whether the result keeps one channel per structure.

    Shape:
        masks (K, \\*S); result (K, \\*S) for multi-label, (1, \\*S) for multi-class, both uint8.

    Example:
        >>> import numpy as np
        >>> from_masks(np.array([[True, False, True], [False, False, True]]), multi_label=False).tolist()
        [[1, 0, 2]]
    """
    if isinstance(masks, torch.Tensor):
        if multi_label:
            return masks.to(torch.uint8)
        values = torch.arange(1, masks.shape[0] + 1, device=masks.device, dtype=torch.uint8)
        weighted = masks * values.view(-1, *[1] * (masks.ndim - 1))
        return weighted.amax(0, keepdim=True)
    if multi_label:
        return masks.astype(np.uint8)
    order = np.arange(1, masks.shape[0] + 1, dtype=np.uint8)
    return (masks * order.reshape(-1, *[1] * (masks.ndim - 1))).max(0, keepdims=True)
