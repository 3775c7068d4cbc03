"""The confident joint of given and true labels, counted over a stream of cases in two passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import voxel_blocks

__all__ = [
    "calibrated_counts",
    "calibrated_joint",
    "class_statistics",
    "class_thresholds",
    "confident_class",
    "confident_counts",
]

_UNIT = 2.0**-26
"""Probabilities are summed as multiples of this, so that sums are whole numbers: exact, in any order."""


def class_statistics(probability: Tensor, label: Tensor) -> Tensor:
    r"""First pass: what the thresholds need to know of one case.

    The results of several cases are added, and those of several processes too (``all_reduce``): they are whole
    numbers, so no order of summation shows in the sum.

    Args:
        probability: predicted probability of every class; of a binary problem 1 - p and p.
        label: given label, class indices.

    Shape:
        probability (C, \*S); label (\*S); result (2, C) int64: the sum of p_c over the voxels labelled c, in units of
        2^-26 and rounded down, and the number of these voxels n_c.

    Raises:
        ValueError: as :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p = torch.tensor([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]])
        >>> statistics = class_statistics(p, torch.tensor([0, 0, 1]))
        >>> statistics[0] / 2**26, statistics[1]
        (tensor([1.2500, 0.7500]), tensor([2, 1]))
    """
    statistics = torch.zeros(2, len(probability), dtype=torch.int64, device=probability.device)
    for p, given in voxel_blocks(probability, label):
        units = [(p[c][given == c].double() / _UNIT).long().sum() for c in range(len(p))]
        statistics += torch.stack([torch.stack(units), given.bincount(minlength=len(p))])
    return statistics


def class_thresholds(statistics: Tensor) -> Tensor:
    r"""Mean probability of each class over the voxels that are labelled so.

    .. math:: t_c = \frac{1}{n_c} \sum_{u: y_u = c} p_{uc} \quad (2)

    A network that is unsure of a class gets a low threshold for it, so that hard and rare classes are counted too.

    Args:
        statistics: sum of :func:`class_statistics` over all cases.

    Shape:
        statistics (2, C); result (C,) float64, infinite for a class that no voxel is labelled as.

    Example:
        >>> class_thresholds(torch.tensor([[5 * 2**24, 0], [2, 0]]))
        tensor([0.6250,    inf], dtype=torch.float64)
    """
    total, voxels = statistics.double()
    return torch.where(voxels > 0, total * _UNIT / voxels, torch.inf)


def confident_class(p: Tensor, thresholds: Tensor) -> Tensor:
    r"""The class that each voxel confidently seems to be: the most probable of those whose threshold it reaches.

    Args:
        p: predicted probabilities.
        thresholds: t, from :func:`class_thresholds`.

    Shape:
        p (C, n); thresholds (C,); result (n,) int64, -1 for a voxel that reaches none.

    Example:
        >>> p = torch.tensor([[0.8, 0.55, 0.55, 0.3], [0.2, 0.45, 0.5, 0.7]])
        >>> confident_class(p, torch.tensor([0.6, 0.5])).tolist()
        [0, -1, 1, 1]
    """
    best, seems = torch.where(p >= thresholds.to(p)[:, None], p, -1).max(0)
    return seems.masked_fill_(best < 0, -1)


def confident_counts(probability: Tensor, label: Tensor, thresholds: Tensor) -> Tensor:
    r"""Second pass: how many voxels of one case are given class i and confidently seem to be class j.

    .. math:: C_{ij} = |\{u: y_u = i, \ j = \arg\max_{c: p_{uc} \ge t_c} p_{uc}\}| \quad (1)

    A voxel that reaches no threshold is not counted. Add the results of cases and processes.

    Args:
        probability: predicted probability of every class; of a binary problem 1 - p and p.
        label: given label, class indices.
        thresholds: t, from :func:`class_thresholds`.

    Shape:
        probability (C, \*S); label (\*S); thresholds (C,); result (C, C) int64.

    Raises:
        ValueError: as :func:`class_statistics`.

    Example:
        >>> p = torch.tensor([[0.8, 0.55, 0.3], [0.2, 0.45, 0.7]])
        >>> confident_counts(p, torch.tensor([0, 0, 0]), torch.tensor([0.6, 0.5]))
        tensor([[1, 1],
                [0, 0]])
    """
    classes = len(probability)
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=probability.device)
    for p, given in voxel_blocks(probability, label):
        seems = confident_class(p, thresholds)
        pairs = (given * classes + seems)[seems >= 0]
        counts += pairs.bincount(minlength=classes * classes)
    return counts.view(classes, classes)


def calibrated_joint(counts: Tensor, voxels: Tensor) -> Tensor:
    r"""Estimated joint distribution of given and true label, rows scaled to how often each class is given.

    .. math:: Q_{ij} = \frac{n_i \, C_{ij} / \sum_j C_{ij}}{\sum_i n_i} \quad (3)

    A class of which no voxel is confident is taken to be right.

    Args:
        counts: sum of :func:`confident_counts` over all cases.
        voxels: n, the voxels given each class, the second row of :func:`class_statistics`.

    Shape:
        counts (C, C); voxels (C,); result (C, C) float64, whose sum is 1.

    Example:
        >>> calibrated_joint(torch.tensor([[3, 1], [0, 0]]), torch.tensor([8, 2]))
        tensor([[0.6000, 0.2000],
                [0.0000, 0.2000]], dtype=torch.float64)

    References:
        C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021, eq. 1 to 3.
    """
    counts, share = counts.double(), voxels.double() / voxels.sum()
    rows = counts.sum(1, keepdim=True)
    conditional = torch.where(rows > 0, counts / rows, torch.eye(len(counts), dtype=counts.dtype, device=counts.device))
    return share[:, None] * conditional


def calibrated_counts(counts: Tensor, voxels: Tensor) -> Tensor:
    r"""The calibrated joint as whole numbers of voxels, every row of which sums to its class count.

    .. math:: C'_{ij} \approx n_i \, C_{ij} / \sum_j C_{ij}, \qquad \sum_j C'_{ij} = n_i

    Every entry is rounded down, and what is missing in a row goes, one voxel each, to the entries that lost most; of
    equal losses to the diagonal first, then to the lower class. Computed in whole numbers, however many voxels.

    Args:
        counts: sum of :func:`confident_counts` over all cases.
        voxels: n, the voxels given each class, the second row of :func:`class_statistics`.

    Shape:
        counts (C, C); voxels (C,); result (C, C) int64.

    Example:
        >>> calibrated_counts(torch.tensor([[3, 1, 1], [0, 0, 0], [1, 1, 1]]), torch.tensor([8, 2, 4]))
        tensor([[5, 2, 1],
                [0, 2, 0],
                [1, 1, 2]])

    References:
        C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021, eq. 2.
    """
    rows = zip(counts.tolist(), voxels.tolist(), strict=True)
    shares = [_whole_shares(row, total, own) for own, (row, total) in enumerate(rows)]
    return torch.tensor(shares, device=counts.device)


def _whole_shares(row: Sequence[int], total: int, own: int) -> list[int]:
    """A total divided as a row is, in whole numbers; all of it to the class itself where the row is empty."""
    if not sum(row):
        return [total * (j == own) for j in range(len(row))]
    shares, lost = (list(part) for part in zip(*(divmod(total * n, sum(row)) for n in row), strict=True))
    order = sorted(range(len(row)), key=lambda j: (-lost[j], j != own, j))
    for j in order[: total - sum(shares)]:
        shares[j] += 1
    return shares
