"""Training on labels of which some voxels are known to be suspect: smoothed towards what they seem to be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from .cross_entropy import CrossEntropyLoss
from .voxel_target import precise
from .voxelwise import VoxelwiseLoss, require_equation

__all__ = ["SpatialLabelSmoothingLoss", "smoothed_label"]


def smoothed_label(
    given: Tensor, seeming: Tensor, epsilon: float, num_classes: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Shares of the classes in the label of every voxel.

    .. math:: q = (1 - \varepsilon) \, \mathrm{onehot}(y) + \varepsilon \, \mathrm{onehot}(y')

    Where y' = y, at every voxel that nobody doubts, it is the given label.

    Args:
        given: class indices y.
        seeming: class indices y', the label that the voxel seems to have.
        epsilon: the share of y', in [0, 1].
        num_classes: C.
        dtype: of the result.

    Shape:
        given, seeming (B, 1, \*S) int64; result (B, C, \*S).

    Example:
        >>> smoothed_label(torch.tensor([[[0, 0]]]), torch.tensor([[[0, 1]]]), 0.25, 2)
        tensor([[[1.0000, 0.7500],
                 [0.0000, 0.2500]]])
    """
    shares = torch.zeros(len(given), num_classes, *given.shape[2:], dtype=dtype, device=given.device)
    shares.scatter_(1, given, 1 - epsilon)
    return shares.scatter_(1, seeming, torch.where(given == seeming, shares.new_ones(()), epsilon))


class SpatialLabelSmoothingLoss(_Loss):
    r"""A loss on the given label, smoothed at suspect voxels only towards the label that they seem to have.

    .. math:: L = \overline{w_u \, l(z_u, q_u)}, \qquad
              q = (1 - \varepsilon) \, \mathrm{onehot}(y) + \varepsilon \, \mathrm{onehot}(y'),

    with y' the network's class :math:`\arg\max_c p_c` at the voxels that confident learning finds wrong
    (:func:`~monai_noisylabel.selection.label_errors`) and the given label elsewhere. Both must come from the given
    label as it was: deciding anew from a label that has been corrected in part turns voxels back.

    Robust to errors that were found; one that was not is learned as with the plain loss. With the default, a right
    voxel that was taken for wrong still pulls towards its label, three to one. Nothing is smoothed where nobody
    doubts the label, unlike common label smoothing.

    Args:
        loss: a voxel-wise loss of this package, linear in the label, with its flags and reduction; cross entropy
            with softmax if None.
        epsilon: in [0, 1]; the paper: 0.25 (soft) or 1 (hard: the label is replaced). 0 is the plain loss.

    Shape:
        input (B, C, \*S) logits; target (B, 2 M, \*S), the M channels of y followed by those of y' (M = 1 for class
        indices, C for independent channels or one-hot labels); weight (B, 1, \*S) or (B,). Result as ``loss`` reduces.

    Raises:
        TypeError: if the loss is not of this family, or corrected.
        ValueError: if epsilon is not in [0, 1], the loss has ``to_onehot_y`` set, the target's channels cannot be
            halved, or as the loss.

    Example:
        >>> logits = torch.tensor([[0.8, 0.8], [0.2, 0.2]]).log()[None]
        >>> given, seeming = torch.tensor([[[1, 1]]]), torch.tensor([[[1, 0]]])  # the second voxel is suspect
        >>> loss = SpatialLabelSmoothingLoss(CrossEntropyLoss(reduction="none"))
        >>> loss(logits, torch.cat([given, seeming], 1)).squeeze().tolist()  # -log 0.2, -0.75 log 0.2 - 0.25 log 0.8
        [1.6094, 1.2629]

    References:
        M. Zhang et al., Characterizing label errors: confident learning for noisy-labeled image segmentation, MICCAI
        2020.

    Deviation:
        For any number of classes, where the paper turns a binary label; its released code turns some voxels twice at
        epsilon = 1.
    """

    def __init__(self, loss: VoxelwiseLoss | None = None, epsilon: float = 0.25) -> None:
        loss = CrossEntropyLoss() if loss is None else require_equation(loss)
        super().__init__(reduction=loss.reduction)
        if loss.flags.to_onehot_y:
            raise ValueError("Leave to_onehot_y of the loss unset: it is given shares, whatever form the labels have.")
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon must be between 0 (the given label) and 1 (what it seems to be), got {epsilon}.")
        self.loss = loss
        self.epsilon = epsilon

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        if target.ndim < 2 or target.shape[1] % 2:
            raise ValueError(
                "The target must hold the given label and the one that it seems to be, one after the other along the "
                f"channels; got the form {tuple(target.shape)}."
            )
        given, seeming = target.chunk(2, dim=1)
        if self.epsilon in (0, 1):
            return self.loss(input, seeming if self.epsilon else given, weight)
        return self.loss(input, self._smoothed(input, given, seeming), weight)

    def _smoothed(self, input: Tensor, given: Tensor, seeming: Tensor) -> Tensor:
        for label in (given, seeming):
            self.loss.flags.read(input, label, None)  # refuses what is no label before it is mixed
        dtype = precise(input.dtype)
        if given.shape[1] == 1 < input.shape[1]:
            return smoothed_label(given.long(), seeming.long(), self.epsilon, input.shape[1], dtype)
        return torch.lerp(given.to(dtype), seeming.to(dtype), self.epsilon)

    def extra_repr(self) -> str:
        """The share of the seeming label, as printed."""
        return f"epsilon={self.epsilon}"
