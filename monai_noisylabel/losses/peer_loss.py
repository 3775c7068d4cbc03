"""The common form of losses under which several networks choose voxels for each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from monai_noisylabel.selection import Scope, as_keep_rates, class_balanced_mean, forget_rates, small_loss_weight

from .cross_entropy import CrossEntropyLoss
from .label_loss import label_loss
from .peer_logits import read_peers
from .voxel_target import TargetFlags
from .voxelwise import require_reduction

__all__ = ["PeerLoss", "peer_cross_entropy"]

Rates = float | Sequence[float] | Sequence[Sequence[float]]

_CROSS_ENTROPY = CrossEntropyLoss()


def peer_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of every voxel, in float32 or better.

    Args:
        logits: logits of one network.
        label: int64 class indices.

    Shape:
        logits (B, C, K, V), label (B, K, V), as :class:`PeerLoss` hands them out; result (B, K, V).
    """
    value = label_loss(logits.flatten(2), label.flatten(1)[:, None], None, _CROSS_ENTROPY, summed=False)
    return value.view(label.shape)


class PeerLoss(_Loss):
    r"""A loss of N networks, each of which learns from the voxels that the others, or all of them, choose.

    .. math:: L = \sum_i \frac{1}{|P_i|} \sum_{c \in P_i}
              \frac{\sum_{u: y_u = c} w_u s_{iu} \, l_{iu}}{\sum_{u: y_u = c} w_u s_{iu}}

    with s_i in {0, 1} the choice that network i learns from: a mean over voxels within each given class, then over the
    classes of which something is kept (:func:`~monai_noisylabel.selection.class_balanced_mean`). A subclass says what
    l is (:meth:`voxel_losses`) and how s comes from it (:meth:`choices`), mostly by small loss
    (:func:`~monai_noisylabel.selection.small_loss_weight`): in epoch e the share f_c(e) of every given class is left
    out, which grows to 1 - R_c over the first epochs (:func:`~monai_noisylabel.selection.forget_rates`).

    The attribute :attr:`epoch` (from 0) must follow the training
    (:class:`~monai_noisylabel.handlers.EpochStart`). :attr:`keep_rates`, R, is a buffer, which
    :class:`~monai_noisylabel.handlers.KeepRates` fills and a checkpoint of the loss keeps. Under
    DistributedDataParallel every process chooses from its own share of the batch.

    Attributes:
        peers: number of networks N; a subclass sets it.
        keep_rates: R_c of every class, form (C,), or of the labels 0 and 1 of every structure, form (K, 2).
        class_balanced: that all classes count alike, True.
        epoch: training epoch.

    Args:
        num_classes: output channels of one network: classes including background, or structures (``sigmoid``).
        keep_rates: R, one number or all of them; 1 leaves nothing out.
        ramp_epochs: epochs until the whole share 1 - R is left out; the paper: 5.
        scope: whether the largest losses are sought in the ``"batch"`` or in each ``"image"``.
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices, which it does for exclusive classes anyway.
        sigmoid: independent channels, multi-label: a two-class problem each.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"`` as above, ``"sum"`` of w s l, or ``"none"``: w s l, summed over the networks.

    Shape:
        input (B, N C, \*S), the logits of N networks (:class:`~monai_noisylabel.networks.PeerNetworks`). target
        (B, 1, \*S) class indices, or with ``sigmoid`` (B, C, \*S) of labels 0 and 1. weight
        (B, 1, \*S) or (B,) in [0, 1]; voxels of weight 0 are neither counted nor kept. Result: a scalar, or for
        ``"none"`` (B, 1, \*S), with ``sigmoid`` (B, C, \*S).

    Raises:
        ValueError: for rates that are no shares, a negative ramp, another scope or reduction, contradicting flags, or
            forms that do not go together.
    """

    peers = 2
    class_balanced = True
    keep_rates: Tensor

    def __init__(
        self,
        num_classes: int,
        keep_rates: Rates = 1.0,
        ramp_epochs: float = 5,
        scope: Scope = "batch",
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=require_reduction(reduction))
        if ramp_epochs < 0:
            raise ValueError(f"ramp_epochs must not be negative, got {ramp_epochs}.")
        if scope not in ("batch", "image"):
            raise ValueError(f"scope must be 'batch' or 'image', got {scope!r}.")
        self.flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        self.num_classes, self.ramp_epochs, self.scope = num_classes, ramp_epochs, scope
        self.register_buffer("keep_rates", as_keep_rates(keep_rates, num_classes, multi_label=sigmoid))
        self.epoch = 0

    def voxel_losses(self, logits: Sequence[Tensor], label: Tensor) -> list[Tensor]:
        """What is learned, one term per network or one for all: each network's cross entropy by default.

        Args:
            logits: (B, C, K, V) of every network, V voxels of K problems of C exclusive classes. K = 1 for
                multi-class; C = 2 for multi-label, the logit of label 0 being 0.
            label: (B, K, V) class indices.

        Returns:
            Terms (B, K, V).
        """
        return [peer_cross_entropy(part, label) for part in logits]

    def choices(self, losses: Sequence[Tensor], smallest: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The choice s in {0, 1} that goes with every term.

        Args:
            losses: the terms, without gradient.
            smallest: keeps the smallest values of every given class, at the keep rates of the epoch.

        Returns:
            Maps of the form of the terms.
        """
        raise NotImplementedError

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        logits, label, weight = read_peers(self.flags, input, target, weight, self.peers, self.num_classes)
        rates = forget_rates(self.epoch, self.keep_rates, self.ramp_epochs)
        if self.flags.sigmoid:
            rates = rates[int(not self.flags.include_background) :]

        def smallest(values: Tensor) -> Tensor:
            return small_loss_weight(values, label, rates, weight, self.scope)

        terms = self.voxel_losses(logits, label)
        kept = self.choices([term.detach() for term in terms], smallest)
        if weight is not None:
            kept = [weight * choice for choice in kept]
        pairs = list(zip(terms, kept, strict=True))
        if self.reduction == "mean":
            return _total([class_balanced_mean(term, label, logits[0].shape[1], share) for term, share in pairs])
        total = _total([share * term for term, share in pairs])
        return total.sum() if self.reduction == "sum" else total.unflatten(2, input.shape[2:])

    def extra_repr(self) -> str:
        """The settings, as printed."""
        settings: dict[str, Any] = {"num_classes": self.num_classes, "ramp_epochs": self.ramp_epochs}
        settings |= {"scope": self.scope, **vars(self.flags), "reduction": self.reduction}
        return ", ".join(f"{name}={value}" for name, value in settings.items())


def _total(terms: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)
