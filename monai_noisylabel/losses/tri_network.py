"""Tri-network: three networks, each of which learns from what the other two choose together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from monai_noisylabel.selection import Scope

from .peer_loss import PeerLoss, Rates

__all__ = ["TriNetworkLoss"]

Rule = Literal["agreement", "intersection"]


class TriNetworkLoss(PeerLoss):
    r"""Cross entropy of three networks, each on voxels that the two others choose together.

    .. math:: L = \sum_{i = 1}^{3} \overline{s_{iu} \, l_{iu}}, \qquad l_i = -\log p_{iy},

    with the class-balanced mean of :class:`~monai_noisylabel.losses.peer_loss.PeerLoss` and, for the two others j and
    k, one of two rules, both of which go by the name of the method in public code:

    - ``"agreement"``: s_i = 0 for the int(f_c n_c) largest \|l_j - l_k\| of every class. Voxels on which the two are
      wrong alike pass.
    - ``"intersection"``: s_i = 1 where l_j and l_k are both among the small losses of the class. It keeps fewer voxels
      than R says, down to max(0, 2 R - 1).

    Robust as co-teaching is, against one network's errors more so; not against errors that most labels share. It costs
    three networks.

    Args:
        num_classes: see :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`, here and below.
        keep_rates: R; Li et al.: 1 - noise rate.
        ramp_epochs: epochs until the whole share is left out; Li et al.: 5.
        scope: ``"batch"`` or ``"image"``.
        rule: ``"agreement"`` or ``"intersection"``.
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, 3 C, \*S) logits of three networks; target (B, 1, \*S) class indices, or (B, C, \*S) with
        ``sigmoid``; weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: for another rule, or as :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`.

    Example:
        >>> import torch
        >>> of_label = torch.tensor([[0.9, 0.2], [0.5, 0.2], [0.4, 0.6]])  # p of label 1, by network and voxel
        >>> logits = torch.stack([1 - of_label, of_label], 1).flatten(0, 1).log()[None]
        >>> for rule in ("agreement", "intersection"):
        ...     loss = TriNetworkLoss(2, keep_rates=0.5, ramp_epochs=0, rule=rule, reduction="none")
        ...     print(loss(logits, torch.ones(1, 1, 2)).squeeze().tolist())
        [0.7985, 0.5108]
        [0.9163, 0.0]

    References:
        T. Zhang et al., Robust medical image segmentation from non-expert annotations with tri-network, MICCAI 2020.
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, which compares with it.

    Deviation:
        Voxels are chosen class by class, and the mean is balanced over the classes, as in the released code of Li et
        al. Whether the choice is by agreement or by intersection is left to the user: public codes differ.
    """

    peers = 3

    def __init__(
        self,
        num_classes: int,
        keep_rates: Rates = 1.0,
        ramp_epochs: float = 5,
        scope: Scope = "batch",
        rule: Rule = "agreement",
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
        if rule not in ("agreement", "intersection"):
            raise ValueError(f"rule must be 'agreement' or 'intersection', got {rule!r}.")
        self.rule = rule

    def choices(self, losses: Sequence[Tensor], smallest: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What the two others choose by the rule."""
        first, second, third = losses
        if self.rule == "agreement":
            return [smallest((one - other).abs()) for one, other in ((second, third), (first, third), (first, second))]
        first, second, third = (smallest(loss) for loss in losses)
        return [second * third, first * third, first * second]
