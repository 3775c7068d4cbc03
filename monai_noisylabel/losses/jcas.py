"""The loss of JCAS: voxels and pairs of voxels, each corrected by a noise transition matrix that is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from .affinity import affinity_loss, sampled_rows
from .noise_matrices import NoiseMatrices
from .voxel_target import TargetFlags, precise
from .voxelwise import weighted_mean

__all__ = ["JCASLoss", "corrected_cross_entropy"]

_SMALLEST = 1e-30
_EPOCH_STRIDE = 100_003


def corrected_cross_entropy(logits: Tensor, label: Tensor, transition: Tensor) -> Tensor:
    r"""Cross entropy of every voxel with its noisy label, whose probability a transition matrix predicts.

    .. math:: L = -\log (T^\top p)_y

    As :class:`~monai_noisylabel.losses.ForwardCorrectedLoss`, with a gradient for T.

    Args:
        logits: those of p, of problems of exclusive classes; half precision is computed in float32.
        label: int64 class indices.
        transition: T of every problem, rows: clean, columns: noisy.

    Shape:
        logits (n, C, V); label (n, V); transition (n, C, C); result (n, V).

    Example:
        >>> logits = torch.tensor([[[0.8], [0.2]]]).log()
        >>> noise = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
        >>> corrected_cross_entropy(logits, torch.tensor([[1]]), noise)  # -log(0.8 * 0.1 + 0.2 * 0.7)
        tensor([[1.5141]])
    """
    noisy = transition.mT @ torch.softmax(logits.to(precise(logits.dtype)), 1)
    return -noisy.gather(1, label[:, None])[:, 0].clamp(min=_SMALLEST).log()


class JCASLoss(_Loss):
    r"""Joint class-affinity loss correction.

    Stage 1, the first ``warm_up`` epochs, takes labels as they are; stage 2 learns how they are mistaken:

    .. math::
        L_1 &= L_c + L_a + \lambda (L_c^s + L_a^s) \\
        L_2 &= L_c^T + L_a^T + \lambda (L_c^{T,s} + L_a^{T,s}) + \nu \, (\log |\det T_C| + \log |\det T_A|)
            + \kappa \, \mathrm{mean} (T_{C \to A} - T_A)^2

    L_c is the cross entropy of the logits plus that of the refined ones
    (:func:`~monai_noisylabel.networks.affinity_reasoning`), L_a the mean over pairs of voxels of the cross entropy
    between affinity and equality of labels (:func:`~monai_noisylabel.losses.affinity_loss`), s the shallow depth; with
    T both are corrected forward, by T_C (C x C) and T_A (2 x 2). The last terms want noise matrices of least volume,
    and that of pairs to be what that of classes implies (:func:`~monai_noisylabel.estimation.class_to_affinity`).

    Suits voxels that are mistaken by class: flipped or confused classes, rough outlines. One matrix for all images
    cannot describe errors of some images only, such as missing annotations.

    T_C and T_A are parameters of the loss and need an optimizer: give it ``loss.matrices.parameter_group(lr)``.
    :attr:`epoch` (from 0) must follow the training (:class:`~monai_noisylabel.handlers.EpochStart`). Under
    DistributedDataParallel wrap the loss too; class counts are summed over the processes here.

    Args:
        num_classes: C, channels of the logits: classes including background, or structures (``sigmoid``).
        warm_up: epochs of stage 1.
        affinity_weight: factor of L_a at both depths; the paper: 1.
        refined_weight: factor of the refined logits' part of L_c; the paper: 1.
        shallow_weight: lambda; the released code: 0.1.
        volume_weight: nu; the released code: 0.5.
        consistency_weight: kappa; the released code: 0.01.
        max_pairs: most pairs per image that L_a is taken over, as a sample if there are more; the paper's grid of
            64x64 has 2^24.
        seed: of that sample, with the epoch.
        sigmoid: independent channels, multi-label: two classes, an affinity and matrices for each structure.
        softmax: exclusive classes; the default.

    Attributes:
        matrices: T_C and T_A (:class:`~monai_noisylabel.losses.NoiseMatrices`), with the counts of labels seen in
            training, from which class shares are taken.
        epoch: training epoch.

    Shape:
        input: what :class:`~monai_noisylabel.networks.AffinityNetwork` gives in training mode. target (B, 1, \*S)
        class indices, or with ``sigmoid`` (B, C, \*S) of labels 0 and 1. weight (B, 1, \*S) or (B,) in [0, 1]; a pair
        counts as the product. Result: a scalar.

    Raises:
        ValueError: if an argument is out of range, flags contradict each other, shapes do not go together, or a label
            is none of the classes.
        TypeError: if the input is not such a dictionary.

    Example:
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> features = torch.tensor([[[[1.0, 0.6], [0.0, 0.8]]]])  # one group of two vectors, affinity 0.6
        >>> loss = JCASLoss(num_classes=2, warm_up=1)
        >>> loss({"logits": logits, "refined": logits, "features": features}, torch.tensor([[[0, 1]]])).item()
        1.3744
        >>> -2 * (logits[0, 0, 0] + logits[0, 1, 1]).item() / 2 + 0.4581  # voxels, and pairs: see affinity_loss
        1.3744

    References:
        X. Guo and Y. Yuan, Joint class-affinity loss correction for robust medical image segmentation with noisy
        labels, MICCAI 2022.

    Deviation:
        Both stages in one training; the authors train the second from the first one's weights. Structures that may
        overlap are a design decision. The volume pulls each row of T_C by the share of its class
        (:meth:`~monai_noisylabel.losses.NoiseMatrices.volume`). The printed consistency is a norm, the released code's
        the mean square, as here.
    """

    def __init__(
        self,
        num_classes: int,
        warm_up: int = 5,
        affinity_weight: float = 1.0,
        refined_weight: float = 1.0,
        shallow_weight: float = 0.1,
        volume_weight: float = 0.5,
        consistency_weight: float = 0.01,
        max_pairs: int = 2**24,
        seed: int = 0,
        *,
        sigmoid: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.flags = TargetFlags(sigmoid=sigmoid, softmax=softmax)
        if num_classes < (1 if sigmoid else 2):
            raise ValueError(f"num_classes must be at least {1 if sigmoid else 2}, got {num_classes}.")
        if warm_up < 0 or max_pairs < 1:
            raise ValueError(f"warm_up must not be negative and max_pairs not below 1, got {warm_up} and {max_pairs}.")
        self.weights = {"affinity": affinity_weight, "refined": refined_weight, "shallow": shallow_weight}
        self.weights |= {"volume": volume_weight, "consistency": consistency_weight}
        for name, value in self.weights.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}_weight must be a number from 0, got {value}.")
        self.num_classes, self.warm_up, self.max_pairs, self.seed = num_classes, warm_up, max_pairs, seed
        groups, classes = (num_classes, 2) if sigmoid else (1, num_classes)
        self.groups = groups
        self.matrices = NoiseMatrices(classes, groups)
        self._generator = torch.Generator()
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The training epoch, from 0; to set it starts the sample of pairs anew."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch = epoch
        self._generator.manual_seed(self.seed * _EPOCH_STRIDE + epoch)

    def forward(self, input: Mapping[str, Tensor], target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of one batch; see the class."""
        self._check(input)
        with torch.autocast(target.device.type, enabled=False):
            label, kept = self._label(input["logits"], target, weight)
            if self.training:
                self.matrices.count(label)
            corrected = self.epoch >= self.warm_up
            value = self._depth(input, "", label, kept, corrected)
            if "shallow_logits" in input:
                value = value + self.weights["shallow"] * self._depth(input, "shallow_", label, kept, corrected)
            if not corrected:  # DDP wants every parameter used
                return value + 0 * torch.stack([weights.sum() for weights in self.matrices.parameters()]).sum()
            volume = self.matrices.volume(self._predicted_shares(input["logits"]))
            inconsistency = self.matrices.inconsistency()
            return value + self.weights["volume"] * volume + self.weights["consistency"] * inconsistency

    def _depth(
        self, input: Mapping[str, Tensor], depth: str, label: Tensor, weight: Tensor | None, corrected: bool
    ) -> Tensor:
        """L_c + L_a of one depth; label and weight (B, G, \\*S)."""
        groups = label.shape[1]
        noise = (self.matrices.of_class, self.matrices.of_affinity) if corrected else (None, None)
        of_class, of_affinity = (None if T is None else T.repeat(len(label), 1, 1) for T in noise)
        value = self._class_loss(input[f"{depth}logits"], label, weight, of_class)
        refined = self._class_loss(input[f"{depth}refined"], label, weight, of_class)
        features = input[f"{depth}features"]
        grid = list(features.shape[3:])
        vectors = features.flatten(3).mT.flatten(0, 1).contiguous()
        coarse_weight = None if weight is None else _coarse(weight, grid).flatten(2).repeat_interleave(groups, 1)
        rows = sampled_rows(vectors.shape[1], self.max_pairs, self._generator)
        pairs = affinity_loss(
            vectors,
            _coarse(label, grid).flatten(2).flatten(0, 1),
            of_affinity,
            None if coarse_weight is None else coarse_weight.flatten(0, 1),
            None if rows is None else rows.to(vectors.device),
        )
        return value + self.weights["refined"] * refined + self.weights["affinity"] * pairs

    def _class_loss(self, logits: Tensor, label: Tensor, weight: Tensor | None, transition: Tensor | None) -> Tensor:
        z = logits.flatten(2)
        z = torch.stack([torch.zeros_like(z), z], 2).flatten(0, 1) if self.flags.sigmoid else z
        given = label.flatten(2).flatten(0, 1)
        if transition is None:
            losses = F.cross_entropy(z.to(precise(z.dtype)), given, reduction="none")
        else:
            losses = corrected_cross_entropy(z, given, transition)
        if weight is None:
            return losses.mean()
        return weighted_mean(losses.view(len(label), label.shape[1], -1), weight.flatten(2))

    @torch.no_grad()
    def _predicted_shares(self, logits: Tensor) -> Tensor:
        """Mean probability of every class of every problem, (G, C)."""
        z = logits.flatten(2).to(precise(logits.dtype))
        if self.flags.sigmoid:
            present = z.sigmoid().mean((0, 2))
            return torch.stack([1 - present, present], 1)
        return z.softmax(1).mean((0, 2))[None]

    def _label(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Class indices (B, G, \\*S), and the weight (B, 1, \\*S)."""
        _, label, weight = self.flags.read(logits, target, weight)
        if not self.flags.sigmoid and label.shape[1] > 1:
            raise ValueError(f"The target must be class indices, in one channel; got {label.shape[1]} channels.")
        space = logits.shape[2:]
        if weight is not None:
            weight = weight.expand(-1, 1, label.shape[2]).unflatten(2, space)
        return (label > 0 if self.flags.sigmoid else label).long().unflatten(2, space), weight

    def _check(self, input: Mapping[str, Tensor]) -> None:
        if not isinstance(input, Mapping) or not {"logits", "refined", "features"} <= set(input):
            raise TypeError(
                "The input must hold logits, refined logits and features, as AffinityNetwork gives them in training "
                f"mode, got {sorted(input) if isinstance(input, Mapping) else type(input).__name__}."
            )
        channels, groups = input["logits"].shape[1], input["features"].shape[1]
        if channels != self.num_classes or groups != self.groups:
            raise ValueError(
                f"The input must have {self.num_classes} channels of logits and {self.groups} group(s) of "
                f"features, got {channels} and {groups}. Build AffinityNetwork with out_channels={self.num_classes} "
                f"and multi_label={self.flags.sigmoid}."
            )

    def extra_repr(self) -> str:
        """The settings, as printed."""
        settings: dict[str, Any] = {"num_classes": self.num_classes, "warm_up": self.warm_up}
        settings |= {f"{name}_weight": value for name, value in self.weights.items()}
        settings |= {"max_pairs": self.max_pairs, "sigmoid": self.flags.sigmoid}
        return ", ".join(f"{name}={value}" for name, value in settings.items())


def _coarse(values: Tensor, grid: Sequence[int]) -> Tensor:
    """The value at the middle of every cell."""
    return F.interpolate(values.float(), size=list(grid), mode="nearest-exact").to(values.dtype)
