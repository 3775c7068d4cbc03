"""Probabilities and labels of one case, checked and handed out block of voxels by block of voxels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["voxel_blocks"]

BLOCK = 2**19
"""Voxels at a time: what is computed from a block stays small beside the case, and near the processor."""

_EXCESS = 1e-3
"""By how much rounding may carry a probability past 1."""


def voxel_blocks(probability: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    r"""The voxels of one case in their order, so that counts need no memory of the size of the case.

    Args:
        probability: predicted probability of every class, of any floating type; of a binary problem 1 - p and p.
        label: given label, class indices.

    Shape:
        probability (C, \*S); label (\*S); blocks (C, n), float32 or better, and (n,) int64.

    Raises:
        ValueError: if the forms do not go together, the label holds other values than 0 to C - 1, or the
            probabilities are not between 0 and 1 (logits, NaN).

    Example:
        >>> p, label = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).half(), torch.tensor([0, 1]).byte()
        >>> list(voxel_blocks(p, label))
        [(tensor([[0.7500, 0.5000],
                [0.2500, 0.5000]]), tensor([0, 1]))]
    """
    if probability.shape[1:] != label.shape or probability.ndim < 2:
        raise ValueError(
            f"probability must be (C, *S) and label (*S), got {tuple(probability.shape)} and {tuple(label.shape)}."
        )
    p, given = probability.flatten(1), label.flatten()
    precise = torch.promote_types(p.dtype, torch.float32)
    for start in range(0, given.numel(), BLOCK):
        block = slice(start, start + BLOCK)
        yield _checked(p[:, block].to(precise), given[block].long())


def _checked(p: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (int(end) for end in given.aminmax())
    if not 0 <= low <= high < len(p):
        raise ValueError(f"label must hold class indices from 0 to {len(p) - 1}, got {low} to {high}.")
    least, most = (float(end) for end in p.aminmax())
    if not 0 <= least <= most <= 1 + _EXCESS:  # NaN is not either
        raise ValueError(
            f"probability must lie between 0 and 1, got {least:.4g} to {most:.4g}: apply softmax to logits, and look "
            "for NaN in the prediction."
        )
    return p, given
