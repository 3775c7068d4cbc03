"""JoCoR: two networks with one loss, which asks that they agree and chooses the voxels of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from monai_noisylabel.selection import Scope

from .peer_loss import PeerLoss, Rates
from .voxel_target import precise

__all__ = ["JoCoRLoss", "jocor_loss", "symmetric_kl"]


def symmetric_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Symmetric Kullback-Leibler divergence of distributions over the channels.

    .. math:: KL(p \| q) + KL(q \| p) = \sum_c (p_c - q_c)(\log p_c - \log q_c)

    Every term is non-negative, so nothing cancels.

    Args:
        log_p: log-probabilities.
        log_q: log-probabilities of the other distribution.

    Shape:
        both (B, C, \*S); result (B, 1, \*S).

    Example:
        >>> import torch
        >>> p, q = torch.tensor([[[0.8], [0.2]]]), torch.tensor([[[0.5], [0.5]]])
        >>> symmetric_kl(p.log(), q.log()).item()  # 0.3 log(0.8 / 0.2)
        0.4159
    """
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1, keepdim=True)


def jocor_loss(log_p: Tensor, log_q: Tensor, label: Tensor, lam: float = 0.65) -> Tensor:
    r"""The joint loss of two networks in every voxel.

    .. math:: l = (1 - \lambda)(-\log p_y - \log q_y) + \lambda \, (KL(p \| q) + KL(q \| p))

    Args:
        log_p: log-probabilities of the first network.
        log_q: of the second.
        label: int64 class indices.
        lam: lambda, the weight of agreement, in [0, 1].

    Shape:
        log_p, log_q (B, C, \*S); label (B, 1, \*S); result (B, 1, \*S).

    Example:
        >>> import torch
        >>> p, q = torch.tensor([[[0.8], [0.2]]]), torch.tensor([[[0.5], [0.5]]])
        >>> jocor_loss(p.log(), q.log(), torch.tensor([[[0]]]), lam=0.5).item()  # (0.2231 + 0.6931 + 0.4159) / 2
        0.6661
    """
    cross_entropies = -(log_p.gather(1, label) + log_q.gather(1, label))
    return (1 - lam) * cross_entropies + lam * symmetric_kl(log_p, log_q)


class JoCoRLoss(PeerLoss):
    r"""One loss of two networks: both cross entropies and their disagreement, on the voxels where it is small.

    .. math:: L = \overline{s_u \, l_u}, \qquad
              l = (1 - \lambda)(-\log p_{1y} - \log p_{2y}) + \lambda \, (KL(p_1 \| p_2) + KL(p_2 \| p_1)),

    with s = 0 for the int(f_c n_c) largest l of every class and the class-balanced mean of
    :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`. The same loss ranks and trains. Two networks hardly agree on
    a wrong label before they memorise it, so its loss is large for two reasons.

    Robust to wrong voxels as long as the labels of every class are mostly right. Not against errors that most labels
    share. The networks become alike; where their difference matters, co-teaching keeps it longer.

    Args:
        num_classes: see :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`, here and below.
        keep_rates: R; the paper: 1 - noise rate.
        ramp_epochs: epochs until the whole share is left out; Li et al.: 5.
        scope: ``"batch"`` or ``"image"``.
        lam: lambda in [0, 1]; Li et al.: 0.65 for segmentation. The original's value is 0.1.
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, 2 C, \*S) logits of two networks; target (B, 1, \*S) class indices, or (B, C, \*S) with ``sigmoid``;
        weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: if lambda is not in [0, 1], or as :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`.

    Example:
        >>> import torch
        >>> first, second = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0.6, 0.2, 0.2])  # p of label 1
        >>> logits = torch.stack([1 - first, first, 1 - second, second]).log()[None]
        >>> loss = JoCoRLoss(num_classes=2, keep_rates=0.6, ramp_epochs=0, lam=0.5, reduction="none")
        >>> loss(logits, torch.ones(1, 1, 3)).squeeze().tolist()  # two wrong networks are left out
        [0.5769, 1.7481, 0.0]

    References:
        H. Wei et al., Combating noisy labels by agreement: a joint training method with co-regularization, CVPR 2020.
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, which applies it to voxels.

    Deviation:
        Voxels are chosen, class by class, instead of images, and the mean is balanced over the classes, as in the
        released code of Li et al.
    """

    def __init__(
        self,
        num_classes: int,
        keep_rates: Rates = 1.0,
        ramp_epochs: float = 5,
        scope: Scope = "batch",
        lam: float = 0.65,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            num_classes,
            keep_rates,
            ramp_epochs,
            scope,
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            sigmoid=sigmoid,
            softmax=softmax,
            reduction=reduction,
        )
        if not 0 <= lam <= 1:
            raise ValueError(f"lam must be between 0 (no agreement) and 1 (nothing else), got {lam}.")
        self.lam = lam

    def voxel_losses(self, logits: Sequence[Tensor], label: Tensor) -> list[Tensor]:
        """The one loss of both networks."""
        log_p, log_q = (F.log_softmax(part, 1, dtype=precise(part.dtype)) for part in logits)
        return [jocor_loss(log_p, log_q, label[:, None], self.lam)[:, 0]]

    def choices(self, losses: Sequence[Tensor], smallest: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Its own small losses."""
        return [smallest(losses[0])]
