"""How well the label of a case agrees with out-of-sample probabilities, in one number."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import voxel_blocks

__all__ = ["softmin_quality"]


def softmin_quality(probability: Tensor, label: Tensor, temperature: float = 0.1) -> float:
    r"""Soft minimum of the given label's probability over the voxels of one case.

    .. math:: s = \frac{\sum_u p_{uy} \, e^{-p_{uy} / T}}{\sum_u e^{-p_{uy} / T}}

    Low for labels with voxels that the network contradicts, few though they may be. It is a mean over the voxels, so
    the same label on a finer grid has the same score; a region of certain voxels around it hardly counts: a voxel of
    p = 1 weighs e^(-1/T) = 1/22026 of one of p = 0. Rank cases by it, lowest first. Not the place to learn how many
    voxels are wrong; that is :func:`~monai_noisylabel.selection.label_errors`.

    Args:
        probability: predicted probability of every class, from a network that did not train on the case.
        label: given label, class indices.
        temperature: T > 0; towards 0 the minimum, towards infinity the mean.

    Shape:
        probability (C, \*S); label (\*S); result in [0, 1], NaN for a case without voxels.

    Raises:
        ValueError: for a temperature that is not positive, or as :func:`~monai_noisylabel.estimation.voxel_blocks`.

    Example:
        >>> p = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]])
        >>> good, bad = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
        >>> round(softmin_quality(p, good), 4), round(softmin_quality(p, bad), 4)
        (0.8424, 0.2013)

    References:
        V. Lad and J. Mueller, Estimating label quality and errors in semantic segmentation data via any model, 2023.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    sums = torch.zeros(2, dtype=torch.float64, device=probability.device)
    for p, given in voxel_blocks(probability, label):
        own = p.gather(0, given[None])[0].double()
        weight = (-own / temperature).exp_()
        sums += torch.stack([(own * weight).sum(), weight.sum()])
    return float(sums[0] / sums[1])
