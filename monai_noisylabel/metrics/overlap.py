"""Overlap counts of two labels, and the Dice coefficient they give.

Counts add up over the slices of a volume and over processes; coefficients do not. So counts are what is passed
around, and the coefficient is taken last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_noisylabel.masks import to_masks

__all__ = ["dice", "mean_dice", "overlap"]


def overlap(prediction: Tensor, label: Tensor, num_classes: int | None = None) -> Tensor:
    """Voxels in the intersection, in the prediction and in the label, per foreground structure.

    Args:
        prediction: a multi-class or multi-label label map of one sample.
        label: the label map it is compared with, in the same form.
        num_classes: classes including background (multi-class), or None (multi-label).

    Shape:
        prediction and label (1, \\*S) or (K, \\*S); result (3, K), float64, rows intersection, prediction, label.

    Raises:
        ValueError: if the two shapes differ.

    Example:
        >>> overlap(torch.tensor([[0, 1, 1]]), torch.tensor([[1, 1, 1]]), num_classes=2).tolist()
        [[2.0], [2.0], [3.0]]
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"Cannot compare a prediction of shape {tuple(prediction.shape)} with a label of shape "
            f"{tuple(label.shape)}: resample one onto the grid of the other first."
        )
    predicted = to_masks(prediction.as_subclass(Tensor), num_classes).flatten(1)
    given = to_masks(label.as_subclass(Tensor), num_classes).flatten(1)
    counts = torch.stack([(predicted & given).sum(1), predicted.sum(1), given.sum(1)])
    return counts.to("cpu").double()


def dice(counts: Tensor) -> Tensor:
    """Dice coefficient 2 |A and B| / (|A| + |B|) per structure; NaN where a structure is in neither map.

    Shape:
        counts (3, K) as :func:`overlap` returns them, or sums of such; result (K,).

    Example:
        >>> dice(torch.tensor([[2.0, 0.0], [2.0, 0.0], [3.0, 0.0]])).tolist()
        [0.8, nan]
    """
    intersection, predicted, given = counts
    return 2 * intersection / (predicted + given)


def mean_dice(counts: Tensor) -> float:
    """Mean Dice over the structures present in at least one of the two maps; 1 if both maps are empty.

    Two empty maps agree fully, which is what a loss over whole samples must see.

    Shape:
        counts (3, K) as :func:`overlap` returns them.

    Example:
        >>> mean_dice(torch.tensor([[2.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
        0.8
    """
    coefficients = dice(counts)
    present = ~coefficients.isnan()
    return float(coefficients[present].mean()) if present.any() else 1.0
