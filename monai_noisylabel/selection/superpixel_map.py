"""Sums over superpixels: which voxels belong together, and what they have on average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SuperpixelMap", "label_counts", "spread", "superpixel_map", "superpixel_means"]


@dataclass(frozen=True)
class SuperpixelMap:
    """Superpixels of N images, numbered from 0 in each of them.

    Attributes:
        index: number of the superpixel of every voxel, (N, V) int64; K for voxels outside.
        sizes: voxels per superpixel, (N, K) int64; 0 for a number that an image does not use.
    """

    index: Tensor
    sizes: Tensor

    @property
    def limit(self) -> int:
        """K: superpixels have numbers below it."""
        return self.sizes.shape[1]


@torch.no_grad()
def superpixel_map(ids: Tensor, mask: Tensor | None = None) -> SuperpixelMap:
    r"""Number the superpixels of every image for sums over them.

    Args:
        ids: superpixel of every voxel, whole numbers of any type. Numbers may be missing; images do not share
            superpixels. Negative: outside all superpixels.
        mask: voxels that count; None: all.

    Shape:
        ids and mask (N, 1, \*S).

    Returns:
        The map. Ids below the number of voxels are kept as they are; larger ones are renumbered in their order.

    Raises:
        ValueError: for other shapes.

    Example:
        >>> found = superpixel_map(torch.tensor([[[3, 3, 0, -1]]]))
        >>> found.index.tolist(), found.sizes.tolist()
        ([[3, 3, 0, 4]], [[1, 0, 0, 2]])
    """
    if ids.ndim < 3 or ids.shape[1] != 1:
        raise ValueError(f"Superpixel ids must have the form (N, 1, *S), got {tuple(ids.shape)}.")
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"The mask must have the form of the ids, {tuple(ids.shape)}, got {tuple(mask.shape)}.")
    index = ids.flatten(1).long()
    outside = index < 0 if mask is None else (index < 0) | ~mask.flatten(1).bool()
    index = index.masked_fill(outside, -1)
    if index.numel() and int(index.max()) >= index.shape[1]:
        index = _renumbered(index)
    count = int(index.max()) + 1 if index.numel() else 0
    index = torch.where(index < 0, count, index)
    return SuperpixelMap(index, _bincount(index, count + 1)[:, :count])


def superpixel_means(values: Tensor, superpixels: SuperpixelMap) -> Tensor:
    r"""Mean over the voxels of every superpixel, eq. 1, by one scatter-add.

    .. math:: P_s(c, k) = \frac{1}{N(k)} \sum_{j: S_j = k} P(c, j) \quad (1)

    Differentiable. Sums are made in float32 or better; on a GPU their order, and with it the last digit, can vary
    unless ``torch.use_deterministic_algorithms`` is on.

    Args:
        values: any maps of floating type.
        superpixels: superpixels of the same voxels.

    Shape:
        values (N, C, \*S); result (N, C, K), 0 for a number that is not used.

    Example:
        >>> found = superpixel_map(torch.tensor([[[3, 3, 0, -1]]]))
        >>> superpixel_means(torch.tensor([[[0.5, 1.0, 0.25, 9.0]]]), found).tolist()
        [[[0.25, 0.0, 0.0, 0.75]]]
    """
    values = values.flatten(2)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    sums = values.new_zeros(*values.shape[:2], superpixels.limit + 1)
    sums = sums.scatter_add(2, superpixels.index[:, None].expand_as(values), values)
    return sums[..., : superpixels.limit] / superpixels.sizes[:, None].clamp(min=1)


@torch.no_grad()
def label_counts(label: Tensor, superpixels: SuperpixelMap, num_classes: int) -> Tensor:
    r"""Voxels of each class in every superpixel; divided by the sizes, the soft labels of eq. 1.

    .. math:: Y_s(c, k) = \frac{1}{N(k)} \sum_{j: S_j = k} 1(Y_j = c) \quad (1)

    Args:
        label: class values from 0.
        superpixels: superpixels of the same voxels.
        num_classes: C, classes including background.

    Shape:
        label (N, 1, \*S); result (N, C, K), int64.

    Raises:
        ValueError: if a label is none of the classes.

    Example:
        >>> found = superpixel_map(torch.tensor([[[3, 3, 0, -1]]]))
        >>> label_counts(torch.tensor([[[1, 0, 1, 1]]]), found, num_classes=2).tolist()
        [[[0, 0, 0, 1], [1, 0, 0, 1]]]
    """
    flat = label.flatten(1).long()
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < num_classes:
        raise ValueError(f"Labels must hold the classes 0 to {num_classes - 1}, found {flat.unique().tolist()}.")
    bins = superpixels.limit + 1
    counts = _bincount(flat * bins + superpixels.index, num_classes * bins)
    return counts.unflatten(1, (num_classes, bins))[..., : superpixels.limit]


def spread(values: Tensor, index: Tensor, outside: float = 0) -> Tensor:
    r"""Give every voxel the value of its superpixel.

    Args:
        values: a value per superpixel.
        index: superpixel of every voxel, K outside.
        outside: value of the voxels outside.

    Shape:
        values (N, K); index and result (N, V).

    Example:
        >>> found = superpixel_map(torch.tensor([[[1, 1, 0, -1]]]))
        >>> spread(torch.tensor([[0.5, 2.0]]), found.index).tolist()
        [[2.0, 2.0, 0.5, 0.0]]
    """
    return torch.nn.functional.pad(values, (0, 1), value=outside).gather(1, index)


def _renumbered(index: Tensor) -> Tensor:
    rows = []
    for row in index:
        numbers, inverse = row.unique(return_inverse=True)
        rows.append(inverse - int(numbers[0] < 0))
    return torch.stack(rows)


def _bincount(index: Tensor, bins: int) -> Tensor:
    """Occurrences of the numbers 0 to bins - 1 in every row of index."""
    rows = torch.arange(len(index), device=index.device)[:, None]
    return torch.bincount((rows * bins + index).flatten(), minlength=len(index) * bins).view(len(index), bins)
