"""The N-th largest score of a stream of cases, exactly, from two histograms of the scores' bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_noisylabel.estimation import voxel_blocks

__all__ = ["high_bit_counts", "low_bit_counts", "nth_largest", "rank_buckets"]

Pair = tuple[int, int]

_LOW_BITS = 16
_LOWEST = ~0x3F800000 >> _LOW_BITS
"""High bits of -1, the least score. Those of 1, and of all below 1.0078, are -_LOWEST - 1."""


def high_bit_counts(probability: Tensor, label: Tensor, pairs: Sequence[Pair]) -> Tensor:
    r"""First pass: the scores of one case, counted by the upper 16 bits of their float32 form.

    A voxel given class i has the scores

    .. math:: s_{ij} = p_j - p_i \ (j \neq i), \qquad s_{ii} = -p_i,

    the higher the more suspicious. Floating-point numbers are ordered as the whole numbers that their bits spell
    (with those of negative ones reversed), so counting the upper bits and, of the one interval that matters, the
    lower ones finds a rank exactly, without sorting and without keeping a score. Add the results of cases and
    processes.

    Args:
        probability: predicted probability of every class.
        label: given label, class indices.
        pairs: the (i, j) to count.

    Shape:
        probability (C, \*S); label (\*S); result (R, 32514) int64, one row per pair.

    Raises:
        ValueError: as :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p = torch.tensor([[0.9, 0.2, 0.25], [0.1, 0.8, 0.75]])
        >>> counts = high_bit_counts(p, torch.tensor([0, 0, 0]), [(0, 1)])
        >>> counts.shape, counts[0][counts[0] > 0]  # of -0.8, 0.6 and 0.5
        (torch.Size([1, 32514]), tensor([1, 1, 1]))
    """
    counts = torch.zeros(len(pairs), -2 * _LOWEST, dtype=torch.int64, device=probability.device)
    for p, given in voxel_blocks(probability, label):
        for number, key in _keys(p, given, pairs):
            counts[number] += ((key >> _LOW_BITS) - _LOWEST).bincount(minlength=counts.shape[1])
    return counts


def low_bit_counts(probability: Tensor, label: Tensor, pairs: Sequence[Pair], buckets: Tensor) -> Tensor:
    r"""Second pass: the scores that share the upper bits of the one sought, counted by their lower 16 bits.

    Args:
        probability: as :func:`high_bit_counts`, here and below.
        label: given label.
        pairs: the (i, j) to count.
        buckets: column of :func:`high_bit_counts` in which each pair's score lies, from :func:`rank_buckets`;
            negative: nothing is sought.

    Shape:
        probability (C, \*S); label (\*S); buckets (R,); result (R, 65536) int64.

    Raises:
        ValueError: as :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p = torch.tensor([[0.0, 0.5], [1.0, 0.5]])
        >>> low_bit_counts(p, torch.tensor([0, 0]), [(0, 1)], torch.tensor([32513]))[0, :3]  # those that begin as 1
        tensor([1, 0, 0])
    """
    counts = torch.zeros(len(pairs), 1 << _LOW_BITS, dtype=torch.int64, device=probability.device)
    high = [int(bucket) + _LOWEST for bucket in buckets]
    sought = [number for number, bucket in enumerate(buckets.tolist()) if bucket >= 0]
    for p, given in voxel_blocks(probability, label):
        for position, key in _keys(p, given, [pairs[number] for number in sought]):
            number = sought[position]
            low = key[key >> _LOW_BITS == high[number]] & (1 << _LOW_BITS) - 1
            counts[number] += low.bincount(minlength=counts.shape[1])
    return counts


def rank_buckets(counts: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    r"""In which column of a histogram the N-th largest value lies, and its rank among the values there.

    Args:
        counts: values in each column, rising from left to right.
        ranks: N of every row, from 1 to the row's sum; 0: nothing is sought.

    Shape:
        counts (R, H); ranks (R,); results (R,) int64: column (-1 where N is 0), rank within it.

    Example:
        >>> rank_buckets(torch.tensor([[2, 0, 3, 1]] * 3), torch.tensor([1, 3, 0]))
        (tensor([ 3,  2, -1]), tensor([1, 2, 0]))
    """
    from_above = counts.flip(-1).cumsum(-1)
    passed = (from_above < ranks[:, None]).sum(-1)  # columns that lie above altogether
    above = torch.where(passed > 0, from_above.gather(-1, (passed - 1).clamp(min=0)[:, None])[:, 0], 0)
    sought = ranks > 0
    return torch.where(sought, counts.shape[-1] - 1 - passed, -1), torch.where(sought, ranks - above, 0)


def nth_largest(buckets: Tensor, columns: Tensor) -> Tensor:
    r"""The scores whose upper and lower bits have been found.

    Args:
        buckets: column in :func:`high_bit_counts`.
        columns: column in :func:`low_bit_counts`.

    Shape:
        buckets, columns (R,); result (R,) float32, infinite where nothing was sought (a column is negative).

    Example:
        >>> nth_largest(torch.tensor([32513, 16257, -1]), torch.tensor([0, 0, -1]))
        tensor([1., 0., inf])
    """
    key = ((buckets + _LOWEST << _LOW_BITS) + columns).to(torch.int32)
    return torch.where((buckets < 0) | (columns < 0), torch.inf, _ordered(key).view(torch.float32))


def _keys(p: Tensor, given: Tensor, pairs: Sequence[Pair]) -> list[tuple[int, Tensor]]:
    """Of every pair whose class is given, its number and its scores as whole numbers of the same order."""
    found = []
    for i in sorted({pair[0] for pair in pairs}):
        of_class = p[:, given == i].float()
        if of_class.shape[1]:
            for number, (_, j) in ((n, pair) for n, pair in enumerate(pairs) if pair[0] == i):
                score = of_class[j] - of_class[i] if i != j else -of_class[i]
                found.append((number, _ordered(score.view(torch.int32))))
    return found


def _ordered(bits: Tensor) -> Tensor:
    """Bits of float32 as whole numbers that are ordered as the floats are; its own inverse."""
    return bits ^ (bits >> 31 & 0x7FFFFFFF)
