"""CLCS: two branches vote on every voxel; what they vote down is learned from with less trust in the label."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_noisylabel.selection import (
    Status,
    agreement_vote,
    class_status,
    curriculum_thresholds,
    prediction_counts,
)

from .peer_logits import read_peers
from .voxel_target import TargetFlags, precise

__all__ = ["CLCSLoss", "EpochTotals", "NoiseMix", "discrepancy_loss", "noise_balance_loss"]

NoiseMix = Literal["confidence", "label"]


def discrepancy_loss(first: Tensor, second: Tensor) -> Tensor:
    r"""How much the features of two branches point the same way, for each branch with the other one held fixed.

    .. math:: L_{dis} = \tfrac12 \big\{ [1 + \overline{\cos}(\mathrm{sg} f_1, f_2)]
              + [1 + \overline{\cos}(f_1, \mathrm{sg} f_2)] \big\}

    with the cosine over the channels of every voxel, averaged over voxels, and sg for a stopped gradient. From 0 to 2,
    for non-negative features from 1. Features of length 0 have the cosine 0.

    Args:
        first: features of the first branch.
        second: those of the second one.

    Shape:
        first and second (B, d, \*S); result a scalar, in float32 or better.

    Example:
        >>> discrepancy_loss(torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[3.0], [4.0]]])).item()  # 1 + 3/5
        1.6

    References:
        Z. Wang, Z. Zhao, X. Xing, D. Xu, X. Kong, L. Zhou, Conflict-based cross-view consistency for semi-supervised
        semantic segmentation, CVPR 2023.
    """
    first, second = (part.to(precise(part.dtype)) for part in (first, second))
    cosines = [F.cosine_similarity(*pair).mean() for pair in ((first.detach(), second), (first, second.detach()))]
    return ((1 + cosines[0]) + (1 + cosines[1])) / 2


def noise_balance_loss(log_p_y: Tensor, mix: Tensor, reverse_weight: float = 0.1, clip: float = 1e-4) -> Tensor:
    r"""A mix of cross entropy and reverse cross entropy for voxels whose label is doubted.

    .. math:: l = w \, CE + (1 - w) \, g \, RCE = -w \log p_y - (1 - w) \, g A (1 - p_y), \qquad A = \log \epsilon

    Cross entropy learns whatever the label says, reverse cross entropy hardly learns what the network contradicts.

    Args:
        log_p_y: logarithm of the given label's probability.
        mix: w in [0, 1].
        reverse_weight: g, at least 0.
        clip: epsilon, see :class:`~monai_noisylabel.losses.ReverseCrossEntropyLoss`.

    Shape:
        any, broadcast.

    Example:
        >>> p_y, mix = torch.tensor([0.8, 0.8, 0.8]), torch.tensor([1.0, 0.0, 0.5])
        >>> noise_balance_loss(p_y.log(), mix).tolist()  # 0.2231, 0.1842 and the mean
        [0.2231, 0.1842, 0.2037]

    References:
        E. Guo, Z. Wang, Z. Zhao, L. Zhou, Imbalanced medical image segmentation with pixel-dependent noisy labels.
    """
    reverse = -math.log(clip) * (1 - log_p_y.exp())
    return (1 - mix) * reverse_weight * reverse - mix * log_p_y


class EpochTotals(NamedTuple):
    r"""Voxels seen since they were last asked for, by all processes.

    Attributes:
        labelled: given each class, (K, C), for K problems of C exclusive classes.
        clean: of these, those in the clean set, (K, C).
        predicted: predicted as each class by each branch, (2, K, C).
    """

    labelled: Tensor
    clean: Tensor
    predicted: Tensor


class CLCSLoss(_Loss):
    r"""Cross entropy where two branches confirm the label, the noise balance loss elsewhere, and their discrepancy.

    .. math:: L = \tfrac12 \sum_{k=1,2} \Big[ \frac{\sum_{u \in clean} w_u CE^k_u}{\sum_{u \in clean} w_u}
              + \lambda \frac{\sum_{u \in noise} w_u NBL^k_u}{\sum_{u \in noise} w_u} \Big] + \mu L_{dis}

    A voxel is clean iff both branches predict its label, each with more confidence than the threshold of that class
    and branch (:func:`~monai_noisylabel.selection.agreement_vote`); all others are noise. Thresholds follow how well
    each class is learned (:func:`~monai_noisylabel.selection.curriculum_thresholds`) and are those of the previous
    update: the running counts of what the branches predict take a batch in after it was judged. An empty set
    contributes 0. While :attr:`warming_up`, all voxels count as clean; a schedule must end that
    (:class:`~monai_noisylabel.handlers.ClassCurriculum`).

    Robust to voxels of a wrong class, and made for classes of very different size: a small class has thresholds of its
    own and is not filtered away. Not against errors that most labels share.

    The running counts are buffers, which a checkpoint of the loss keeps. They are updated in training mode only. In a
    distributed run all processes count together and share the denominators, so they have the same thresholds and the
    loss of the whole batch; then every process must call the loss equally often.

    Attributes:
        counts: running means of predicted voxels and of the confident ones, form (2, K, C, 2).
        warming_up: whether all voxels count as clean, a bool tensor.

    Args:
        num_classes: output channels of one branch: classes including background, or structures (``sigmoid``).
        status: how well a class is learned: ``"rate"``, the share of confident voxels among those predicted, or
            ``"count"``, their number (:func:`~monai_noisylabel.selection.class_status`).
        tau: confidence that counts, and the largest threshold, in (0, 1); FlexMatch: 0.95.
        momentum: share of the running counts that a batch leaves, in [0, 1).
        noise_weight: lambda, at least 0; 0 drops the noise set.
        noise_mix: w in the noise balance loss: ``"confidence"``, 1 less the mean of the branches' confidences, or
            ``"label"``, the mean of their probabilities of the given label.
        reverse_weight: g in the noise balance loss, at least 0.
        discrepancy_weight: mu, at least 0.
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices, which it does for exclusive classes anyway.
        sigmoid: independent channels, multi-label: two classes each, with a vote and thresholds of their own.
        softmax: exclusive channels, multi-class; the default.

    Shape:
        input: logits (B, 2 C, \*S) and features (B, 2 d, \*s) of both branches, as
        :class:`~monai_noisylabel.networks.CollaborativeNetwork` gives them in training mode. target (B, 1, \*S) class
        indices, or with ``sigmoid`` (B, C, \*S) of labels 0 and 1. weight (B, 1, \*S) or (B,) in [0, 1]; voxels of
        weight 0 are neither learned from nor counted; the discrepancy knows no labels and no weights. Result: a scalar.

    Raises:
        TypeError: if the input is not a pair of tensors.
        ValueError: for a setting out of its range, contradicting flags, or forms that do not go together.

    Example:
        >>> first, second = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0.6, 0.7, 0.2])  # p of label 1
        >>> logits = torch.stack([1 - first, first, 1 - second, second]).log()[None]
        >>> features = torch.tensor([[[1.0], [0.0], [0.0], [1.0]]])  # orthogonal, so the discrepancy is 1
        >>> loss, target = CLCSLoss(num_classes=2).eval(), torch.ones(1, 1, 3)
        >>> loss((logits, features), target).item()  # warm-up: 1 + the mean of six cross entropies
        1.8513
        >>> loss.warming_up = torch.tensor(False)
        >>> loss((logits, features), target).item()  # 1 + 0.2990 (two clean voxels) + 0.4795 (the third)
        1.7785

    References:
        E. Guo, Z. Wang, Z. Zhao, L. Zhou, Imbalanced medical image segmentation with pixel-dependent noisy labels.
        Z. Wang et al., Conflict-based cross-view consistency for semi-supervised semantic segmentation, CVPR 2023.
        B. Zhang et al., FlexMatch: boosting semi-supervised learning with curriculum pseudo labeling, NeurIPS 2021.

    Deviation:
        Only the paper's abstract and figure are at hand. They give the two branches, a discrepancy loss between the
        bottlenecks, thresholds of convex curvature per class and branch, the vote, and a confidence-weighted mix of
        cross entropy and reverse cross entropy for the noise set. The form of the discrepancy follows CCVC and that of
        the thresholds FlexMatch; all weights, the rate, the running counts, the warm-up and the form of w are design
        decisions.
    """

    counts: Tensor
    warming_up: Tensor
    totals: Tensor

    def __init__(
        self,
        num_classes: int,
        status: Status = "rate",
        tau: float = 0.95,
        momentum: float = 0.95,
        noise_weight: float = 0.5,
        noise_mix: NoiseMix = "confidence",
        reverse_weight: float = 0.1,
        discrepancy_weight: float = 1.0,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        self.num_classes, self.status, self.tau, self.momentum = num_classes, status, tau, momentum
        self.noise_weight, self.noise_mix, self.reverse_weight = noise_weight, noise_mix, reverse_weight
        self.discrepancy_weight = discrepancy_weight
        self._check_settings()
        problems = num_classes - int(not include_background) if sigmoid else 1
        form = (problems, 2 if sigmoid else num_classes)
        self.register_buffer("counts", torch.zeros(2, *form, 2))
        self.register_buffer("warming_up", torch.tensor(True))
        self.register_buffer("totals", torch.zeros(*form, 4, dtype=torch.int64), persistent=False)

    @property
    def thresholds(self) -> Tensor:
        """The thresholds that the next batch is judged by, (2, K, C)."""
        return curriculum_thresholds(class_status(self.counts, self.status), self.tau)

    def take_totals(self) -> EpochTotals:
        """What was counted since this was last called, or since the beginning."""
        labelled, clean, *predicted = self.totals.clone().unbind(-1)
        self.totals.zero_()
        return EpochTotals(labelled, clean, torch.stack(predicted))

    def forward(self, input: tuple[Tensor, Tensor], target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss; see the class."""
        logits, features = _both(input)
        parts, label, weight = read_peers(self.flags, logits, target, weight, 2, self.num_classes)
        log_p = [F.log_softmax(part, 1, dtype=precise(part.dtype)) for part in parts]
        clean, noise, mix = self._select(log_p, label, weight)
        total = self.discrepancy_weight * discrepancy_loss(*features.chunk(2, 1))
        for part in log_p:
            log_p_y = part.gather(1, label[:, None])[:, 0]
            balance = noise_balance_loss(log_p_y, mix, self.reverse_weight)
            total = total + (self.noise_weight * noise * balance - clean * log_p_y).sum() / 2
        return total

    @torch.no_grad()
    def _select(self, log_p: list[Tensor], label: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Share of every voxel in the mean over the clean and over the noise set, and w, all (B, K, V)."""
        votes = [part.max(1) for part in log_p]
        confidences, predictions = [vote.values.exp() for vote in votes], [vote.indices for vote in votes]
        clean = agreement_vote(confidences, predictions, label, self.thresholds)
        clean = torch.where(self.warming_up, 1.0, clean).to(log_p[0].dtype)
        counted = torch.ones_like(clean) if weight is None else weight.to(clean.dtype).expand_as(clean)
        seen = [(clean, label, 0.5), *((p, c, self.tau) for p, c in zip(confidences, predictions, strict=True))]
        batch = [prediction_counts(p, c, log_p[0].shape[1], limit, weight) for p, c, limit in seen]
        in_sets = torch.stack([clean * counted, (1 - clean) * counted])
        sums, counts = self._over_all(in_sets.flatten(1).sum(1), torch.stack(batch))
        if self.training:
            self._note(counts)
        clean_share, noise_share = in_sets / torch.where(sums > 0, sums, 1).view(2, 1, 1, 1)
        if self.noise_mix == "confidence":
            return clean_share, noise_share, 1 - (confidences[0] + confidences[1]) / 2
        first, second = (part.gather(1, label[:, None])[:, 0].exp() for part in log_p)
        return clean_share, noise_share, (first + second) / 2

    def _over_all(self, sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of both sets as a mean over the processes, and counts as a sum; in training only."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return sums, counts
        exact = torch.float64 if sums.device.type != "mps" else torch.float32
        both = torch.cat([sums.to(exact), counts.flatten().to(exact)])
        dist.all_reduce(both)
        return (both[:2] / dist.get_world_size()).to(sums.dtype), both[2:].round().long().view_as(counts)

    def _note(self, counts: Tensor) -> None:
        """Take a batch's counts (3, K, C, 2), of labels and of both branches, into the running and the total ones."""
        self.totals += torch.cat([counts[0], counts[1:, ..., 0].movedim(0, -1)], -1)
        self.counts.lerp_(counts[1:].to(self.counts.dtype), 1 - self.momentum)

    def _check_settings(self) -> None:
        class_status(torch.zeros(1, 2), self.status)
        if not 0 < self.tau < 1:
            raise ValueError(f"tau must be between 0 and 1, got {self.tau}.")
        if self.noise_mix not in get_args(NoiseMix):
            raise ValueError(f"noise_mix must be one of {get_args(NoiseMix)}, got {self.noise_mix!r}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and less than 1, got {self.momentum}.")
        for name in ("noise_weight", "reverse_weight", "discrepancy_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")

    def extra_repr(self) -> str:
        """The settings, as printed."""
        names = ("num_classes", "status", "tau", "momentum", "noise_weight", "noise_mix", "reverse_weight")
        settings: dict[str, Any] = {name: getattr(self, name) for name in (*names, "discrepancy_weight")}
        return ", ".join(f"{name}={value}" for name, value in (settings | vars(self.flags)).items())


def _both(input: Any) -> tuple[Tensor, Tensor]:
    if isinstance(input, tuple) and len(input) == 2 and all(isinstance(part, Tensor) for part in input):
        return input[0], input[1].as_subclass(Tensor)
    found = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
    raise TypeError(
        "The input must be the logits and the bottleneck features of two branches, which CollaborativeNetwork gives in "
        f"training mode; got {found}. In the bundle clcs another network is named by --network_def#network."
    )
