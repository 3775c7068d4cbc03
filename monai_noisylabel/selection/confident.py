"""Confident learning's choice of the voxels whose label is wrong, over a stream of cases and exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from monai_noisylabel.estimation import (
    calibrated_counts,
    class_statistics,
    class_thresholds,
    confident_class,
    confident_counts,
    voxel_blocks,
)

from .score_ranks import high_bit_counts, low_bit_counts, nth_largest, rank_buckets

__all__ = ["ConfidentLimits", "PruningRule", "confident_limits", "label_errors"]

PruningRule = Literal["prune_by_class", "prune_by_noise_rate", "both", "off_diagonal"]
Cases = Iterable[tuple[Tensor, Tensor]]
Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ConfidentLimits:
    r"""What :func:`label_errors` must know of the whole data set to judge a voxel of it.

    Attributes:
        rule: how voxels are chosen, see :func:`confident_limits`.
        thresholds: (C,) t_c, the mean probability of class c where it is given; infinite for a class never given.
        joint: (C, C) int64, C', the estimated number of voxels given class i and truly of class j.
        scores: (C, C) float32, the score from which on a voxel given class i is chosen: p_j - p_i in column j,
            -p_i in the diagonal. Infinite where nothing is chosen.
    """

    rule: PruningRule
    thresholds: Tensor
    joint: Tensor
    scores: Tensor


def confident_limits(
    cases: Cases, rule: PruningRule = "prune_by_noise_rate", total: Total | None = None
) -> ConfidentLimits:
    r"""Count a data set for confident learning: how many labels of each kind are wrong, and from which score on.

    With the calibrated joint C' (voxels given i, truly j) of n_i voxels given i, the rules choose

    - ``"prune_by_class"``: of the voxels given i, the n_i - C'_ii of lowest p_i;
    - ``"prune_by_noise_rate"``: of the voxels given i, for every j other than i the C'_ij of largest margin
      p_j - p_i;
    - ``"both"``: what both of them choose;
    - ``"off_diagonal"``: the voxels that are counted off the diagonal of the confident joint.

    The first three estimate HOW MANY labels are wrong, with rows scaled up for voxels that no count was sure of; the
    last one takes only those that were counted. ``"both"`` is the most cautious of the first three.

    Robust to networks that are unsure of a class, whose threshold is then low. Not to probabilities from a network
    that has learned from these very labels: let it predict patients that it did not train on. It cannot see errors
    that the network makes too, such as a boundary that all labels draw in the wrong place.

    Cases are read three times, one at a time (twice for ``"off_diagonal"``). Memory: one case, and about 2 MB for each
    ranking, of which there are C for ``"prune_by_class"`` and C^2 for ``"both"``; not more for more cases. All sums
    are whole numbers, so neither the order of the cases nor the number of processes shows in the result.

    Args:
        cases: probability of every class and given label of each case; a list or another collection, not a
            generator. For a binary problem give 1 - p and p, for multi-label ones each structure by itself.
        rule: one of the four above. The default is that of the authors' package.
        total: the sum of a tensor over all processes, for a data set that is divided among them, as
            ``all_reduce`` gives it; every process must hold a case. None for a single process.

    Shape:
        probability (C, \*S), label (\*S).

    Raises:
        ValueError: for another rule, no case, cases that can be read only once, or as
            :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p = torch.tensor([[0.9, 0.8, 0.1, 0.6, 0.2, 0.1], [0.1, 0.2, 0.9, 0.4, 0.8, 0.9]])
        >>> label = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> limits = confident_limits([(p, label)])
        >>> limits.joint.tolist(), round(limits.scores[0, 1].item(), 4)
        ([[3, 1], [0, 2]], 0.8)
        >>> label_errors(p, label, limits).int().tolist()
        [0, 0, 1, 0, 0, 0]

    References:
        C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021.
        M. Zhang et al., Characterizing label errors: confident learning for noisy-labeled image segmentation, MICCAI
        2020.

    Deviation:
        Voxels that share the last score that is chosen are all chosen, so that equal voxels get equal verdicts
        wherever they lie; the numbers above are then exceeded by these ties. Scores are compared in float32.
    """
    if rule not in get_args(PruningRule):
        raise ValueError(f"rule must be one of {', '.join(get_args(PruningRule))}; got {rule!r}.")
    total = total or (lambda counts: counts)
    statistics, high = (total(part) for part in _first_pass(cases, rule))
    thresholds = class_thresholds(statistics)
    counts = total(_summed(confident_counts(p, label, thresholds) for p, label in cases))
    joint = calibrated_counts(counts, statistics[1])
    scores = torch.full(joint.shape, torch.inf)
    pairs = _ranked(len(joint), rule)
    if pairs:
        wrong = (joint - joint.diagonal().diag()).fill_diagonal_(0)
        numbers = wrong + wrong.sum(1).diag()
        buckets, ranks = rank_buckets(high, torch.stack([numbers[pair] for pair in pairs]))
        low = total(_summed(low_bit_counts(p, label, pairs, buckets) for p, label in cases))
        scores[tuple(torch.tensor(pairs).T)] = nth_largest(buckets, rank_buckets(low, ranks)[0])
    return ConfidentLimits(rule, thresholds, joint, scores)


def label_errors(probability: Tensor, label: Tensor, limits: ConfidentLimits) -> Tensor:
    r"""Which voxels of one case are labelled wrongly, by the rule and the counts of :func:`confident_limits`.

    A voxel whose given class is the most probable one (or as probable as it) is never chosen, whatever the rule.
    As a weight map, the errors left out, it is ``(~errors)[None, None].float()``.

    Args:
        probability: predicted probability of every class, as it was counted.
        label: given label, class indices.
        limits: from :func:`confident_limits`.

    Shape:
        probability (C, \*S); label (\*S); result (\*S) bool.

    Raises:
        ValueError: if the limits are for another number of classes, or as
            :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p, label = torch.tensor([[0.9, 0.3], [0.1, 0.7]]), torch.tensor([0, 0])
        >>> limits = ConfidentLimits(
        ...     "prune_by_class", torch.tensor([0.6, 0.6]), torch.eye(2), torch.tensor([[-0.4, torch.inf]] * 2)
        ... )
        >>> errors = label_errors(p, label, limits)
        >>> errors.tolist(), (~errors)[None, None].float()
        ([False, True], tensor([[[1., 0.]]]))
    """
    if len(probability) != len(limits.thresholds):
        raise ValueError(
            f"The limits were counted for {len(limits.thresholds)} classes, the probability has {len(probability)}."
        )
    errors = torch.zeros(label.numel(), dtype=torch.bool, device=label.device)
    start = 0
    for p, given in voxel_blocks(probability, label):
        contradicted = (p.amax(0) > p.gather(0, given[None])[0]).nonzero()[:, 0]
        chosen = _chosen(p[:, contradicted], given[contradicted], limits)
        errors[start + contradicted[chosen]] = True
        start += len(given)
    return errors.view(label.shape)


def _chosen(p: Tensor, given: Tensor, limits: ConfidentLimits) -> Tensor:
    """Of the voxels (C, n) whose label is not the most probable class, those that the rule takes."""
    if limits.rule == "off_diagonal":
        seems = confident_class(p, limits.thresholds.to(p.device))
        return (seems >= 0) & (seems != given)
    p, limit = p.float(), limits.scores.to(p.device)[given].T
    own = p.gather(0, given[None])
    low = -own[0] >= limit.gather(0, given[None])[0]
    by_margin = (p - own >= limit.scatter(0, given[None], torch.inf)).any(0)
    if limits.rule == "both":
        return low & by_margin
    return low if limits.rule == "prune_by_class" else by_margin


def _ranked(classes: int, rule: PruningRule) -> list[tuple[int, int]]:
    """The scores that a rule ranks, as (given class, other class)."""
    kinds = {"prune_by_class": (True,), "prune_by_noise_rate": (False,), "both": (True, False), "off_diagonal": ()}
    pairs = [(i, j) for i in range(classes) for j in range(classes)]
    return [pair for pair in pairs if (pair[0] == pair[1]) in kinds[rule]]


def _first_pass(cases: Cases, rule: PruningRule) -> tuple[Tensor, Tensor]:
    """Class statistics, and the upper bits of all scores."""
    statistics = high = None
    for p, label in cases:
        counted = class_statistics(p, label).cpu(), high_bit_counts(p, label, _ranked(len(p), rule)).cpu()
        statistics = counted[0] if statistics is None else statistics + counted[0]
        high = counted[1] if high is None else high + counted[1]
    if statistics is None or high is None:
        raise ValueError("There is no case to count: give a collection with a case in it.")
    return statistics, high


def _summed(counts: Iterator[Tensor]) -> Tensor:
    """Sum of what a further reading of the cases counts."""
    first = next(counts, None)
    if first is None:
        raise ValueError("Cases are read several times: give a list or another collection, not a generator.")
    return functools.reduce(torch.add, (part.cpu() for part in counts), first.cpu())
