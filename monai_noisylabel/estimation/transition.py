"""Noise transition matrices: from weights that can be learned, their volume, and what classes say about pairs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_priors", "class_to_affinity", "log_volume", "transition_matrix"]

_SINGULAR = 1e-12
"""Added to the squares of the singular values, so that the volume of a singular matrix has a logarithm."""


def transition_matrix(weight: Tensor) -> Tensor:
    r"""Row-stochastic matrix of free weights.

    .. math:: T_{ij} = \frac{S_{ij}}{\sum_k S_{ik}}, \qquad S_{ii} = 1, \quad S_{ij} = \sigma(W_{ij})

    No class is mistaken for another one more often than it is recognised, for any W. The diagonal of W has no effect.

    Args:
        weight: W; the paper's public code begins with -2 everywhere, i.e. T_ij = 0.106 for two classes.

    Shape:
        weight (..., C, C); result the same.

    Example:
        >>> transition_matrix(torch.full((2, 2), -2.0))
        tensor([[0.8935, 0.1065],
                [0.1065, 0.8935]])
    """
    eye = torch.eye(weight.shape[-1], dtype=torch.bool, device=weight.device)
    scores = torch.where(eye, 1.0, weight.sigmoid())
    return scores / scores.sum(-1, keepdim=True)


def log_volume(transition: Tensor) -> Tensor:
    r"""Logarithm of |det T|: 0 for labels without noise, -infinity for labels that say nothing.

    Of all matrices that explain the noisy labels, the one of least volume is the true one, if every class has voxels
    that are surely of it.

    Args:
        transition: T.

    Shape:
        transition (..., C, C); result (...).

    Returns:
        The value in nats, computed in float64, in the tensor's type; a singular matrix gives a finite one.

    Example:
        >>> log_volume(torch.tensor([[0.75, 0.25], [0.25, 0.75]])).item()  # log(1 / 2)
        -0.6931

    References:
        X. Li et al., Provably end-to-end label-noise learning without anchor points, ICML 2021.
    """
    exact = transition.double()
    eye = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device)
    return (0.5 * torch.logdet(exact @ exact.mT + _SINGULAR * eye)).to(transition.dtype)


def class_to_affinity(transition: Tensor, priors: Tensor) -> Tensor:
    r"""How pairs of voxels are mislabelled when their classes are, in closed form.

    With N_m the share of class m, and 1 for a pair of one class,

    .. math::
        T(1, 1) = \frac{\sum_m N_m^2 \sum_n T_{mn}^2}{\sum_m N_m^2}, \qquad
        T(0, 1) = \frac{\sum_n (\sum_m N_m T_{mn})^2 - \sum_m N_m^2 \sum_n T_{mn}^2}{(\sum_m N_m)^2 - \sum_m N_m^2}

    and T(1, 0), T(0, 0) what is left of each row. A pair is any two voxels, a voxel with itself included. Exact for the
    matrix and the shares counted on a label; for others it takes voxels to be mislabelled independently.

    Args:
        transition: T of the classes; rows: clean, columns: noisy.
        priors: N, shares or counts.

    Shape:
        transition (..., C, C); priors (..., C); result (..., 2, 2), rows: clean, columns: noisy, of pairs of different
        classes (0) and of one class (1). A kind of pair that the shares leave no room for is never mislabelled.

    Raises:
        ValueError: if the forms do not go together.

    Example:
        >>> noise = torch.tensor([[2 / 3, 0, 0, 1 / 3], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]])
        >>> 21 * class_to_affinity(noise, torch.tensor([3.0, 2.0, 2.0, 2.0]))[1]
        tensor([10.0000, 11.0000])

    References:
        X. Guo and Y. Yuan, Joint class-affinity loss correction for robust medical image segmentation with noisy
        labels,
        MICCAI 2022.

    Deviation:
        The authors' slides print the first sum of T(0, 1) as sum_m [N_m sum_n T_mn]^2, which is sum_m N_m^2 for any T.
    """
    if transition.shape[-1] != transition.shape[-2] or transition.shape[:-1] != priors.shape:
        raise ValueError(
            f"The transition matrix (..., C, C) and the priors (..., C) do not go together: got "
            f"{tuple(transition.shape)} and {tuple(priors.shape)}."
        )
    shares = priors / priors.sum(-1, keepdim=True)
    same = shares.square().sum(-1)
    stay = (shares.square() * transition.square().sum(-1)).sum(-1)
    meet = (shares[..., None] * transition).sum(-2).square().sum(-1) - stay
    join = _ratio(meet, 1 - same, when_empty=0.0)
    hold = _ratio(stay, same, when_empty=1.0)
    return torch.stack([torch.stack([1 - join, join], -1), torch.stack([1 - hold, hold], -1)], -2)


def class_priors(counts: Tensor) -> Tensor:
    r"""Share of every class, from the voxels labelled so far.

    Args:
        counts: voxels per class, summed over cases and processes.

    Shape:
        counts (..., C); result (..., C), in float32; equal shares where nothing was counted yet.

    Example:
        >>> class_priors(torch.tensor([[6, 2], [0, 0]]))
        tensor([[0.7500, 0.2500],
                [0.5000, 0.5000]])

    Deviation:
        These are the shares of the noisy labels, as in the authors' public code; the equations ask for those of the
        clean ones.
    """
    voxels = counts.double().sum(-1, keepdim=True)
    return torch.where(voxels > 0, counts / voxels.clamp(min=1), 1 / counts.shape[-1]).float()


def _ratio(part: Tensor, whole: Tensor, when_empty: float) -> Tensor:
    """Part of a whole, or a constant where rounding is all there is of the whole."""
    empty = whole <= 1e-6
    return torch.where(empty, when_empty, part / torch.where(empty, 1.0, whole))
