"""Co-teaching: two networks, each of which learns from the voxels that the other finds easy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .peer_loss import PeerLoss

__all__ = ["CoTeachingLoss"]


class CoTeachingLoss(PeerLoss):
    r"""Cross entropy of two networks, each on the voxels of small loss of the other one.

    .. math:: L = \sum_{i = 1, 2} \overline{s_{3 - i, u} \, l_{iu}}, \qquad l_i = -\log p_{iy}, \quad
              s_i = 1 \text{ except for the } \mathrm{int}(f_c n_c) \text{ largest } l_i \text{ of every class } c,

    with the class-balanced mean of :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`. A voxel that one network has
    begun to memorise wrongly is still doubted by the other, which started from other weights.

    Robust to wrong voxels as long as the networks differ and the labels of every class are mostly right. Not against
    errors that most labels share; and small loss also leaves out right labels that are hard.

    Args:
        num_classes: see :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`, here and below.
        keep_rates: R; the paper: 1 - noise rate.
        ramp_epochs: epochs until the whole share is left out; Li et al.: 5, the original: 10.
        scope: ``"batch"`` or ``"image"``.
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, 2 C, \*S) logits of two networks; target (B, 1, \*S) class indices, or (B, C, \*S) with ``sigmoid``;
        weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: as :class:`~monai_noisylabel.losses.peer_loss.PeerLoss`.

    Example:
        >>> import torch
        >>> first, second = torch.tensor([0.9, 0.8, 0.1, 0.7]), torch.tensor([0.6, 0.2, 0.5, 0.8])  # p of label 1
        >>> logits = torch.stack([1 - first, first, 1 - second, second]).log()[None]
        >>> target = torch.ones(1, 1, 4)
        >>> loss = CoTeachingLoss(num_classes=2, keep_rates=0.75, ramp_epochs=0, reduction="none")
        >>> loss(logits, target).squeeze().tolist()  # 1 leaves out the third, so 2 does not learn it, and so on
        [0.6162, 1.6094, 2.3026, 0.5798]

    References:
        B. Han et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018,
        algorithm 1.

    Deviation:
        The original chooses whole images of a batch and takes their mean; here voxels are chosen, class by class, and
        the mean is balanced over the classes, as in the released code of S. Li et al., Superpixel-guided iterative
        learning from noisy labels for medical image segmentation, MICCAI 2021.
    """

    def choices(self, losses: Sequence[Tensor], smallest: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The other network's small losses."""
        first, second = (smallest(loss) for loss in losses)
        return [second, first]
