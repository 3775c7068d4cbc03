"""Pick-and-learn: samples count by how good their label looks to a second network, which one loss trains along."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from .voxel_target import flat_weight, precise

__all__ = ["PickAndLearnLoss", "require_joint_batch"]

_GREATEST_BOUND = 20.0
"""A weight of e^-40 of another one is none, and float32 can still tell it from 0."""


def require_joint_batch(batch_size: int, cases: int) -> None:
    """Refuse a training in which no batch holds two samples, before anything is read.

    Args:
        batch_size: samples of a batch, of all processes together.
        cases: samples of the training set; the batch is no larger.

    Raises:
        ValueError: if one of them is less than 2.

    Example:
        >>> require_joint_batch(batch_size=8, cases=1)
        Traceback (most recent call last):
        ValueError: Pick-and-learn weighs the samples of a batch against each other and needs two at least; the
        training set has 1: train the baseline, or add cases.
    """
    if cases < 2:
        raise ValueError(
            "Pick-and-learn weighs the samples of a batch against each other and needs two at least; the training set "
            f"has {cases}: train the baseline, or add cases."
        )
    if batch_size < 2:
        raise ValueError(
            "Pick-and-learn weighs the samples of a batch against each other and needs two at least, got batch_size "
            f"{batch_size}: set a larger one, 8 for example, with smaller images or patches if the memory does not do."
        )


class PickAndLearnLoss(_Loss):
    r"""Mean of the losses of a batch's samples, weighted by the softmax of how good their labels look.

    .. math:: L = \sum_i w_i l_i, \qquad w_i = \frac{v_i e^{z_i}}{\sum_j v_j e^{z_j}}, \qquad z_i = \lambda \tanh q_i

    with q the scores of :class:`~monai_noisylabel.networks.QualityNetwork`, l_i the loss of sample i alone and v_i = 1.
    One loss trains both networks: :math:`\partial L / \partial z_i = w_i (l_i - L)`, so the quality network learns to
    tell, from image and label, samples of more than the mean loss, and the segmentation network to learn less from
    them. The bound lambda is the paper's overfitting control: two weights differ by the factor :math:`e^{2 \lambda}`
    at most, and a sample that was misjudged can come back.

    In the first ``warm_up`` epochs the segmentation network learns from the plain mean, and the quality network by its
    weights as ever. A network that knows nothing finds the samples easy that everybody does, such as those of large
    labels, and would go on to learn from these. The attribute :attr:`epoch` (from 0) must follow the training
    (:class:`~monai_noisylabel.handlers.EpochStart`).

    Robust to labels that are wrong as a whole among right ones in the same batch, such as missing or displaced
    structures. Not against small errors in every label, nor against errors that most labels share; and right labels of
    unusual images weigh less too.

    In a distributed run the softmax spans the samples of all processes, whatever their numbers: the value is that of
    the joint batch on every process, and the mean of the processes' gradients, which DistributedDataParallel takes, is
    its gradient. Then every process must call the loss equally often.

    Attributes:
        weights: B w_i of the last batch, without gradient: 1 where all samples count alike.
        epoch: training epoch.

    Args:
        loss: loss of one sample, called as ``loss(logits, target)`` on batches of one, with reduction to a mean: any
            segmentation loss of MONAI or of this package. The paper: Dice.
        bound: lambda, from 0 (plain mean) to 20; the paper: 2.
        warm_up: epochs before the weights count for the segmentation network, at least 0; the paper: 0.

    Shape:
        input: logits (B, C, \*S) and scores (B,), as :class:`~monai_noisylabel.networks.QualityAwareNetwork` gives
        them in training mode. target as ``loss`` wants it, (B, 1, \*S) or (B, C, \*S). weight (B,) in [0, 1] is v;
        of a map (B, 1, \*S) v is the mean over the sample, and ``loss`` gets it as a third argument. Result: a scalar.

    Raises:
        TypeError: if the input is not a pair of tensors.
        ValueError: for a batch of 1, where every weight is 1 and the quality network learns nothing; for a bound or
            warm-up out of its range, a loss of more than one value, or forms that do not go together.

    Example:
        >>> loss = PickAndLearnLoss(nn.L1Loss(), bound=2.0)
        >>> logits, target = torch.tensor([[[1.0]], [[3.0]]]), torch.zeros(2, 1, 1)
        >>> scores = torch.tensor([0.5, -0.5])  # z = 2 tanh(q) = +-0.9242
        >>> loss((logits, scores), target).item(), loss.weights.tolist()  # w = e^.9242 / (e^.9242 + e^-.9242), 1 - w
        (1.2721, [1.7279, 0.2721])

    References:
        H. Zhu, J. Shi, J. Wu, Pick-and-learn: automatic quality evaluation for noisy-labeled image segmentation, MICCAI
        2019.

    Deviation:
        Weights v, which enter both sums, and the warm-up are not in the paper. Its details, such as lambda, are taken
        from descriptions of it; see the page of the bundle ``pick_and_learn``.
    """

    weights: Tensor

    def __init__(self, loss: nn.Module, bound: float = 2.0, warm_up: int = 0) -> None:
        super().__init__()
        if not 0 <= bound <= _GREATEST_BOUND:
            raise ValueError(f"bound must be from 0 to {_GREATEST_BOUND:g}, got {bound}.")
        if warm_up < 0:
            raise ValueError(f"warm_up must be 0 epochs or more, got {warm_up}.")
        self.loss = loss
        self.bound, self.warm_up = bound, warm_up
        self.epoch = 0
        self.weights = torch.empty(0)

    def forward(self, input: tuple[Tensor, Tensor], target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of one batch; see the class."""
        logits, scores = _both(input)
        with torch.autocast(logits.device.type, enabled=False):
            losses = self._sample_losses(logits.to(precise(logits.dtype)), target.as_subclass(Tensor), weight)
            given = torch.ones_like(losses)
            if weight is not None:
                given = flat_weight(weight.as_subclass(Tensor), logits).to(losses.dtype).mean((1, 2))
            masses = given * torch.exp(self.bound * (scores.to(losses.dtype).tanh() - 1))  # given e^(-2 bound) to given
            if self.epoch >= self.warm_up:
                return self._mean(masses, losses)
            plain = self._mean(given, losses)
            judged = self._mean(masses, losses.detach())
            return plain + (judged - judged.detach())

    def _mean(self, masses: Tensor, losses: Tensor) -> Tensor:
        """Weighted mean over the samples of all processes; :attr:`weights` are set."""
        own = torch.stack([masses.sum(), (masses * losses).sum()])
        sums, samples, processes = self._over_all(own, len(masses))
        _require_two(samples)
        total = torch.where(sums[0] > 0, sums[0], 1)
        self.weights = (samples * masses / total).detach()
        value = sums[1] / total
        return value.detach() + processes * (value - value.detach())

    def _sample_losses(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The loss of every sample, (B,)."""
        per_voxel = [] if weight is None or weight.ndim == 1 else [weight]
        samples = zip(*(part.split(1) for part in (logits, target, *per_voxel)), strict=True)
        losses = [self.loss(*sample) for sample in samples]
        if losses[0].numel() != 1:
            raise ValueError(
                f"{type(self.loss).__name__} gives the form {tuple(losses[0].shape)} for one sample: it must reduce to "
                "a mean, with reduction='mean'."
            )
        return torch.stack(losses).flatten()

    def _over_all(self, own: Tensor, samples: int) -> tuple[Tensor, int, int]:
        """Sums over the samples of all processes, with the own ones' gradient, their number, and the processes'."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return own, samples, 1
        exact = torch.float64 if own.device.type != "mps" else torch.float32
        everywhere = torch.cat([own.detach().to(exact), own.new_tensor([samples], dtype=exact)])
        dist.all_reduce(everywhere)
        sums = everywhere[:2].to(own.dtype) + (own - own.detach())
        return sums, round(everywhere[2].item()), dist.get_world_size()

    def extra_repr(self) -> str:
        """The settings, as printed."""
        return f"bound={self.bound}, warm_up={self.warm_up}"


def _require_two(samples: int) -> None:
    if samples < 2:
        raise ValueError(
            "A batch of 1 has the weight 1 whatever its label, and the quality network learns nothing from it: set a "
            "batch size of 2 or more, and let the loader drop a last batch of one sample (drop_last=True)."
        )


def _both(input: Any) -> tuple[Tensor, Tensor]:
    """Logits and scores, as plain tensors that belong together."""
    if not (isinstance(input, tuple) and len(input) == 2 and all(isinstance(part, Tensor) for part in input)):
        found = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(
            f"The input must be logits and scores, as QualityAwareNetwork gives them in training mode; got {found}."
        )
    logits, scores = (part.as_subclass(Tensor) for part in input)
    if scores.shape != logits.shape[:1]:
        raise ValueError(
            f"To logits {tuple(logits.shape)} belong scores of the form {tuple(logits.shape[:1])}, got "
            f"{tuple(scores.shape)}."
        )
    return logits, scores
