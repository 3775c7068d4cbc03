"""The loss of superpixel-guided iterative learning: two networks learn from the superpixels of small joint loss."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_noisylabel.selection.small_loss import Scope, as_keep_rates, class_balanced_mean, forget_rates
from monai_noisylabel.selection.superpixel import (
    SuperpixelUnits,
    Variant,
    class_losses,
    loss_gap,
    mean_keep_rate,
    select_units,
    superpixel_units,
    unit_index,
)
from monai_noisylabel.selection.superpixel_map import label_counts, spread, superpixel_map, superpixel_means

from .jocor import jocor_loss
from .peer_loss import Rates
from .voxel_target import flat_weight, precise
from .voxelwise import weighted_mean

__all__ = ["SuperpixelLoss"]


class SuperpixelLoss(_Loss):
    r"""Joint loss of two networks on the superpixels whose labels both of them find plausible.

    Superpixels are ranked by the loss of the averaged probabilities and labels (eq. 1 and 2, without a gradient); those
    of smallest loss are taken until they hold the share R of the voxels (eq. 3); on these voxels

    .. math:: L = \frac{1}{N(\hat D_s)} \sum_{S_i \in \hat D_s} \ell_i, \quad
              \ell = (1 - \lambda)(\ell_{ce}(P^1, Y) + \ell_{ce}(P^2, Y)) + \lambda \ell_{kl}(P^1, P^2) \quad (4)

    with the symmetric Kullback-Leibler divergence. Robust to wrong outlines and missing or added regions: what
    contradicts the image is left out superpixel by superpixel. Not to be used where structures are smaller than a
    superpixel, nor against an error that most labels share.

    R begins at 1 and falls linearly to the keep rate over the first epochs, while everything is still to be learned.
    The attribute :attr:`epoch` (from 0) must follow the training;
    :class:`~monai_noisylabel.handlers.EpochStart` sets it. :attr:`gap` is the mean over the epoch's batches of the loss
    gap (eq. 5), by which :class:`~monai_noisylabel.handlers.SuperpixelRefinement` knows when to stop.

    Args:
        num_classes: C, channels of one network's logits.
        keep_rates: R in [0, 1], the share of right labels: one number; one per class, background first; with
            ``sigmoid`` one pair per channel, of its labels 0 and 1.
        ramp_epochs: epochs until R is reached; the released code: 5. 0: from the start.
        scope: whether the share holds over the ``"batch"`` or in every ``"image"``. The equations are those of an
            image; the released code ranks in the batch, which suits noise that only some of the images have.
        lam: weight of the disagreement in [0, 1]; the paper: 0.65.
        per_class: whether the share holds within the superpixels of every given class, by its own rate, or over all,
            by the mean of the rates weighted with the voxels of their classes.
        class_balanced: whether the mean over voxels is taken class by class first, and then over the classes present.
        variant: ``"paper"``, or ``"released"``: the averaged probability is compared with the label of each voxel, so
            that the parts of a superpixel with different labels are chosen apart, per class always; and the gap is
            that of the voxels' losses. See :func:`~monai_noisylabel.selection.superpixel_units`.
        sigmoid: independent channels, multi-label: a problem of two classes each.
        softmax: exclusive classes; the default.

    Attributes:
        keep_rates: buffer (C,), with ``sigmoid`` (C, 2).
        first_epoch: epoch at which the fall of R begins; 0.

    Shape:
        input (B, 2 C, \*S), the logits of both networks (:class:`~monai_noisylabel.networks.PeerNetworks` in training
        mode); target (B, 2, \*S), class values and superpixel ids from 1, or with ``sigmoid`` (B, C + 1, \*S). An id of
        0, as left by padding, is outside: not learned from. Ids are exact up to 2^24 in float32. weight (B, 1, \*S) or
        (B,) in [0, 1]; voxels of weight 0 are outside. Result: a scalar; 0 if nothing is selected.

    Raises:
        ValueError: if an argument is out of range, shapes do not go together, or a label is none of the classes.

    Example:
        >>> label, ids = torch.tensor([[[1, 1, 1, 0]]]), torch.tensor([[[1, 1, 2, 2]]])
        >>> logits = torch.tensor([[[-2.0, -2.0, 2.0, 2.0], [2.0, 2.0, -2.0, -2.0]]]).repeat(1, 2, 1)
        >>> loss = SuperpixelLoss(2, keep_rates=0.5, ramp_epochs=0, per_class=False)
        >>> loss(logits, torch.cat([label, ids], 1)).item()  # the first superpixel: 0.7 log(1 + exp(-4))
        0.0127
        >>> loss.gap  # 0.7 times the mean of log(1 + exp(4)) and log(1 + exp(-4)), less the loss above
        1.4000

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, section 2.2.

    Deviation:
        The paper has one R per image and the plain mean of eq. 4; ``scope``, ``per_class`` and ``class_balanced`` are
        by default those of its public code. Multi-label channels are a design decision.
    """

    keep_rates: Tensor
    _gaps: Tensor

    def __init__(
        self,
        num_classes: int,
        keep_rates: Rates = 1.0,
        ramp_epochs: float = 5,
        scope: Scope = "batch",
        lam: float = 0.65,
        per_class: bool = True,
        class_balanced: bool = True,
        variant: Variant = "paper",
        *,
        sigmoid: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        if sigmoid and softmax:
            raise ValueError("sigmoid and softmax exclude each other: set sigmoid for multi-label channels only.")
        if num_classes < (1 if sigmoid else 2):
            raise ValueError(f"num_classes must be at least {1 if sigmoid else 2}, got {num_classes}.")
        if not 0 <= lam <= 1:
            raise ValueError(f"lam must lie in [0, 1], got {lam}.")
        if ramp_epochs < 0:
            raise ValueError(f"ramp_epochs must not be negative, got {ramp_epochs}.")
        for name, value, known in (("scope", scope, Scope), ("variant", variant, Variant)):
            if value not in get_args(known):
                raise ValueError(f"{name} must be one of {get_args(known)}, got {value!r}.")
        self.register_buffer("keep_rates", as_keep_rates(keep_rates, num_classes, multi_label=sigmoid))
        self.register_buffer("_gaps", torch.zeros(2, dtype=torch.float64), persistent=False)
        self.num_classes, self.lam, self.ramp_epochs = num_classes, lam, ramp_epochs
        self.scope, self.per_class, self.class_balanced = scope, per_class, class_balanced
        self.variant, self.sigmoid = variant, sigmoid
        self.first_epoch = 0
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The training epoch, from 0; to set it starts the mean of the gap anew."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch = epoch
        self._gaps.zero_()

    @property
    def falling(self) -> bool:
        """Whether the share that is learned from is still on its way from 1 to the keep rates."""
        return self._epochs_done < self.ramp_epochs

    @property
    def gap_sum(self) -> tuple[float, int]:
        """Sum of the gaps of this epoch so far, and how many they are, to be added up over processes."""
        total, count = self._gaps.tolist()
        return total, int(count)

    @property
    def gap(self) -> float:
        """Mean gap of this epoch so far; NaN if no batch had one, as long as everything is selected."""
        total, count = self.gap_sum
        return total / count if count else float("nan")

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of one batch; see the class."""
        self._check(input, target)
        log_p = self.log_probabilities(input.as_subclass(Tensor))
        label, ids = self.labels_and_ids(target.as_subclass(Tensor))
        counted = (ids > 0).to(log_p.dtype)
        if weight is not None:
            flat = flat_weight(weight.as_subclass(Tensor), input).expand(-1, 1, ids.shape[2])
            counted = counted * flat.repeat_interleave(len(label) // len(flat), 0)
        superpixels = superpixel_map(ids, counted > 0)
        counts = label_counts(label, superpixels, log_p.shape[2])
        value = jocor_loss(log_p[:, 0], log_p[:, 1], label, self.lam)
        with torch.no_grad():
            first, second = superpixel_means(log_p.exp().flatten(1, 2), superpixels).chunk(2, 1)
            units = superpixel_units(class_losses(first, second, self.lam), counts, self.variant)
            selected, gap = self._select(units, counts, len(label) // len(input))
            chosen = spread(selected, unit_index(superpixels, label, log_p.shape[2], self.variant))[:, None]
            if self.variant == "released":
                rest, kept = (self._mean(value, label, counted * part) for part in (~chosen, chosen))
                gap = rest - kept
            if self.training:
                self._gaps += torch.stack([gap.nansum(), (~gap.isnan()).sum()])
        return self._mean(value, label, counted * chosen)

    def log_probabilities(self, input: Tensor) -> Tensor:
        r"""Log-probabilities of both networks for problems of exclusive classes, (N, 2, classes, V).

        There is one problem per sample, N = B, or with ``sigmoid`` one of two classes per sample and channel, N = B C.

        Args:
            input: logits of both networks, (B, 2 C, \*S).
        """
        logits = input.flatten(2).to(precise(input.dtype)).unflatten(1, (2, -1))
        if not self.sigmoid:
            return logits.log_softmax(2)
        channels = logits.transpose(1, 2).flatten(0, 1)
        return torch.stack([F.logsigmoid(-channels), F.logsigmoid(channels)], 2)

    def labels_and_ids(self, target: Tensor) -> tuple[Tensor, Tensor]:
        r"""Labels and superpixel ids of the same problems, (N, 1, V) both.

        Args:
            target: labels and ids, (B, 2, \*S), or with ``sigmoid`` (B, C + 1, \*S).
        """
        label, ids = target.flatten(2).split([target.shape[1] - 1, 1], 1)
        return label.flatten(0, 1)[:, None].long(), ids.repeat_interleave(label.shape[1], 0)

    def _check(self, input: Tensor, target: Tensor) -> None:
        labels = self.num_classes if self.sigmoid else 1
        if input.ndim < 3 or input.shape[1] != 2 * self.num_classes:
            raise ValueError(
                f"The input must be the logits (B, {2 * self.num_classes}, *S) of two networks with {self.num_classes} "
                f"channels each (PeerNetworks in training mode gives them so), got {tuple(input.shape)}."
            )
        if target.shape != (len(input), labels + 1, *input.shape[2:]):
            raise ValueError(
                f"The target must hold {labels} channel(s) of labels and one of superpixel ids, of the form "
                f"{(len(input), labels + 1, *input.shape[2:])}, got {tuple(target.shape)}."
            )

    def _select(self, units: SuperpixelUnits, counts: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Which units (N, U) are learned from, and the gaps; groups of samples are selected from apart."""
        forgotten = forget_rates(self._epochs_done, self.keep_rates.double(), self.ramp_epochs)
        rates = 1 - forgotten.view(groups, -1)
        voxels = counts.sum(2)
        samples = len(voxels) // groups
        if self.scope == "batch":
            parts = [part.unflatten(0, (-1, groups)).transpose(0, 1).flatten(1) for part in units]
            voxels = voxels.unflatten(0, (-1, groups)).sum(0)
        else:
            parts, rates = list(units), rates.repeat(samples, 1)
        loss, size, given = parts
        if not self.per_class and self.variant == "paper":
            rates = mean_keep_rate(rates, voxels)
        each_class = self.per_class or self.variant == "released"
        selected = select_units(loss, size, rates, given if each_class else None)
        gap = loss_gap(loss, size, selected)
        if self.scope == "batch":
            selected = selected.unflatten(1, (samples, -1)).transpose(0, 1).flatten(0, 1)
        return selected, gap

    def _mean(self, value: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        """Weighted mean over voxels, or the mean over the classes present of theirs."""
        if not self.class_balanced:
            return weighted_mean(value, weight)
        channels = self.num_classes if self.sigmoid else 1
        parts = [part.view(-1, channels, part.shape[2]) for part in (value, label, weight)]
        return class_balanced_mean(parts[0], parts[1], 2 if self.sigmoid else self.num_classes, parts[2])

    @property
    def _epochs_done(self) -> int:
        return max(0, self.epoch - self.first_epoch)

    def extra_repr(self) -> str:
        """The settings, as printed."""
        names = ("num_classes", "ramp_epochs", "scope", "lam", "per_class", "class_balanced", "variant", "sigmoid")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        return ", ".join(f"{name}={value}" for name, value in settings.items())
