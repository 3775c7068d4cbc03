"""How well a score of suspicion puts the wrong cases (or regions, or voxels) before the right ones."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["auroc", "average_precision", "effort_to_find", "review_curve"]


def auroc(suspicion: Tensor, wrong: Tensor) -> float:
    r"""Probability that a wrong item is more suspicious than a right one, equal ones counting half.

    .. math:: A = \frac{1}{PN} \sum_{a \in P} \sum_{b \in N} \big([s_a > s_b] + \tfrac{1}{2} [s_a = s_b]\big)

    Summed in whole numbers over the distinct scores, so ties are exact. It does not look at how many items are wrong;
    where few are, average precision tells more of what a reviewer sees.

    Args:
        suspicion: score of every item, the higher the more suspicious.
        wrong: which items are wrong, bool or 0 and 1.

    Shape:
        both (N,); result in [0, 1], NaN if no item is wrong or none is right.

    Raises:
        ValueError: if the forms differ, or a score is NaN.

    Example:
        >>> auroc(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([1, 1, 0, 0]))  # (1 + 1 + 1/2 + 1) / 4
        0.875
    """
    errors, items = _groups(suspicion, (torch.as_tensor(wrong) > 0).long())
    right = items - errors
    below = right.sum() - right.cumsum(0)
    twice = (errors * (2 * below + right)).sum()
    return float(twice.double() / (2 * errors.sum() * right.sum()))


def average_precision(suspicion: Tensor, wrong: Tensor) -> float:
    r"""Mean, over the wrong items, of the precision of the list that ends with the item.

    .. math:: AP = \sum_k (R_k - R_{k-1}) P_k

    over the distinct scores, with R_k and P_k recall and precision of all items that are at least that suspicious:
    equal items come into the list together, no interpolation.

    Args:
        suspicion: score of every item, the higher the more suspicious.
        wrong: which items are wrong, bool or 0 and 1.

    Shape:
        both (N,); result in [0, 1], NaN if no item is wrong.

    Raises:
        ValueError: as :func:`auroc`.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([1, 1, 0, 0]))  # (1 + 2/3) / 2
        0.8333
    """
    errors, items = _groups(suspicion, (torch.as_tensor(wrong) > 0).long())
    precision = errors.cumsum(0).double() / items.cumsum(0)
    return float((errors * precision).sum() / errors.sum())


def review_curve(suspicion: Tensor, errors: Tensor, effort: Tensor | None = None) -> Tensor:
    r"""Errors found against the effort spent, when items are reviewed in the order of suspicion.

    Items of equal suspicion are reviewed in an order that nobody knows: the curve is the mean over all orders, so
    within them it rises evenly.

    Args:
        suspicion: score of every item, the higher the sooner.
        errors: what a review finds in the item: 1 or 0 for wrong or right, or a number, such as wrong voxels.
        effort: what its review costs, such as minutes. None: 1, so effort counts items.

    Shape:
        all (N,); result (2, N + 1) float64, effort and errors after every item, from (0, 0).

    Raises:
        ValueError: as :func:`auroc`, or if an error or effort is negative or NaN.

    Example:
        >>> review_curve(torch.tensor([0.5, 0.9, 0.5]), torch.tensor([1, 3, 0]), torch.tensor([4.0, 2.0, 6.0])).tolist()
        [[0.0, 2.0, 7.0, 12.0], [0.0, 3.0, 3.5, 4.0]]
    """
    errors = torch.as_tensor(errors).double()
    effort = torch.ones_like(errors) if effort is None else torch.as_tensor(effort).double()
    for name, values in (("errors", errors), ("effort", effort)):
        if not bool((values >= 0).all()):
            raise ValueError(f"{name} must be 0 or more for every item, got {values.tolist()}.")
    sums = [_groups(suspicion, values) for values in (effort, errors)]
    items = sums[0][1]
    curve = torch.stack([(total / items).repeat_interleave(items).cumsum(0) for total, _ in sums])
    return torch.cat([curve.new_zeros(2, 1), curve], 1)


def effort_to_find(curve: Tensor, share: float) -> float:
    r"""Effort after which a share of all errors is found: the minutes to find them, or the items to review.

    Args:
        curve: from :func:`review_curve`.
        share: of the errors, in [0, 1].

    Shape:
        curve (2, N + 1); result the effort at the first item after which the share is found; 0 without errors.

    Raises:
        ValueError: for a share outside [0, 1].

    Example:
        >>> curve = review_curve(torch.tensor([3, 2, 1, 0]), torch.tensor([1, 0, 1, 0]), torch.tensor([5, 5, 10, 10]))
        >>> effort_to_find(curve, 0.5), effort_to_find(curve, 0.8)
        (5.0, 20.0)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, got {share}.")
    effort, found = curve
    enough = found >= share * found[-1] * (1 - 1e-12)  # the sum of a tie's parts may be rounded down
    return float(effort[enough.nonzero()[0, 0]])


def _groups(suspicion: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the values, and number of items, of every distinct score, the most suspicious first."""
    suspicion = torch.as_tensor(suspicion)
    if suspicion.ndim != 1 or suspicion.shape != values.shape:
        raise ValueError(
            "The scores and what is known of the items must have one form (N,), got "
            f"{tuple(suspicion.shape)} and {tuple(values.shape)}."
        )
    if bool(suspicion.isnan().any()):
        raise ValueError("A score is NaN: an item that could not be scored has no rank. Leave it out, or score it.")
    distinct, group, items = suspicion.unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(distinct)).index_add_(0, group, values)
    return sums.flip(0), items.flip(0)
