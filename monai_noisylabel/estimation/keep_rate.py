"""Keep rates: which share of the voxels given a class is right, from clean labels or without them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .confident_joint import class_statistics, class_thresholds, confident_counts

__all__ = ["confusion_counts", "estimated_keep_rates", "keep_rates", "oracle_keep_rates", "with_class_shares"]

Cases = Iterable[tuple[Tensor, Tensor]]


def keep_rates(counts: Tensor) -> Tensor:
    r"""Share of the voxels given a class that are of that class.

    .. math:: R_i = \frac{C_{ii}}{\sum_j C_{ij}}

    Args:
        counts: voxels given class i and of class j: a confusion matrix
            (:func:`confusion_counts`), a confident joint (:func:`~monai_noisylabel.estimation.confident_counts`), or
            a calibrated one. Calibration scales rows, so it does not change the rates.

    Shape:
        counts (..., C, C); result (..., C) float64. A class that is not there has the rate 1: nothing to leave out.

    Example:
        >>> keep_rates(torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]])).tolist()
        [0.75, 0.5, 1.0]
    """
    right, given = counts.double().diagonal(dim1=-2, dim2=-1), counts.double().sum(-1)
    return torch.where(given > 0, right / given, 1)


def confusion_counts(given: Tensor, clean: Tensor, num_classes: int) -> Tensor:
    r"""How many voxels of one case are given class i and truly of class j; add the results of cases and processes.

    Args:
        given: noisy label, class indices.
        clean: true label.
        num_classes: classes including background.

    Shape:
        given, clean (\*S); result (C, C) int64.

    Raises:
        ValueError: if the forms differ or a label holds other values than 0 to C - 1.

    Example:
        >>> confusion_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2)
        tensor([[1, 0],
                [1, 1]])
    """
    if given.shape != clean.shape:
        raise ValueError(f"given {tuple(given.shape)} and clean label {tuple(clean.shape)} must have one form.")
    pairs = given.flatten().long(), clean.flatten().long()
    for name, values in zip(("given", "clean"), pairs, strict=True):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(f"the {name} label must hold class indices from 0 to {num_classes - 1}.")
    return (pairs[0] * num_classes + pairs[1]).bincount(minlength=num_classes**2).view(num_classes, num_classes)


def oracle_keep_rates(cases: Cases, num_classes: int) -> Tensor:
    r"""Keep rates of every class from clean labels: the precision of the noisy ones. For studies with known noise.

    Args:
        cases: noisy and clean label of each case, class indices; read once, one case at a time.
        num_classes: classes including background; 2 for a structure of a multi-label problem.

    Shape:
        labels (\*S); result (C,) float64, 1 for a class that is never given.

    Raises:
        ValueError: if there is no case, or as :func:`confusion_counts`.

    Example:
        >>> noisy, clean = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
        >>> oracle_keep_rates([(noisy, clean)], num_classes=3).tolist()
        [0.5, 1.0, 1.0]

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, which takes the noise rate as known.
    """
    return keep_rates(_total(confusion_counts(given, clean, num_classes).cpu() for given, clean in cases))


def with_class_shares(probability: Tensor, shares: Tensor) -> Tensor:
    r"""Probabilities for classes as frequent as they are, from a network that has learned all classes alike.

    .. math:: p'_{uc} = \frac{\pi_c \, p_{uc}}{\sum_j \pi_j \, p_{uj}}

    A loss whose mean is taken class by class makes all classes equally likely. To such a network a voxel that is
    structure in one case of ten looks like structure, and most labels along a boundary look wrong.

    Args:
        probability: of a network trained with such a loss.
        shares: pi, how much of all voxels is labelled as each class.

    Shape:
        probability (C, \*S); shares (C,); result (C, \*S), in the type of the probability. It sums to 1, or is 0
        where only classes of share 0 are possible.

    Example:
        >>> with_class_shares(torch.tensor([[0.5, 0.1], [0.5, 0.9]]), torch.tensor([0.9, 0.1])).tolist()
        [[0.9, 0.5], [0.1, 0.5]]

    References:
        M. Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure,
        Neural Computation 2002, eq. 2.4.
    """
    joint = probability * shares.to(probability).view(-1, *[1] * (probability.ndim - 1))
    return joint / joint.sum(0, keepdim=True).clamp_min(torch.finfo(joint.dtype).tiny)


def estimated_keep_rates(cases: Cases) -> Tensor:
    r"""Keep rates of every class without clean labels: the diagonal of the confident joint over its row sums.

    As good as the probabilities: best from networks that did not learn from these labels. A network that has
    memorised them finds every label right, an untrained one finds hardly any.

    Args:
        cases: probability of every class and noisy label of each case; read twice, one case at a time, so a list or
            another collection, not a generator.

    Shape:
        probability (C, \*S), label (\*S); result (C,) float64, 1 for a class that is never given or of which no
        voxel is confident.

    Raises:
        ValueError: if there is no case, or the cases can be read only once.

    Example:
        >>> probability = torch.tensor([[0.9, 0.8, 0.1, 0.1], [0.1, 0.2, 0.9, 0.9]])
        >>> estimated_keep_rates([(probability, torch.tensor([0, 0, 0, 1]))]).round(decimals=4).tolist()
        [0.6667, 1.0]

    References:
        C. Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021.
    """
    statistics = _total(class_statistics(probability, label).cpu() for probability, label in cases)
    thresholds = class_thresholds(statistics)
    return keep_rates(_total(confident_counts(probability, label, thresholds).cpu() for probability, label in cases))


def _total(counts: Iterator[Tensor]) -> Tensor:
    first = next(counts, None)
    if first is None:
        raise ValueError(
            "No case to count. Cases may be read twice: give a collection with a case in it, not a generator."
        )
    return functools.reduce(torch.add, counts, first)
