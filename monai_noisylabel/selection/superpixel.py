"""Which superpixels are learned from: those of small loss, until they hold the wanted share of the voxels."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .superpixel_map import SuperpixelMap

__all__ = [
    "SuperpixelUnits",
    "Variant",
    "class_losses",
    "loss_gap",
    "mean_keep_rate",
    "select_units",
    "superpixel_units",
    "unit_index",
]

Variant = Literal["paper", "released"]


def class_losses(first: Tensor, second: Tensor, lam: float = 0.65) -> Tensor:
    r"""The loss that every superpixel would have under each of the labels.

    .. math:: \ell(c) = (1 - \lambda)(-\log p^1_c - \log p^2_c)
              + \lambda \sum_{c'} (p^1_{c'} - p^2_{c'})(\log p^1_{c'} - \log p^2_{c'})

    The second term is the Kullback-Leibler divergence in both directions. Cross entropy is linear in the label, so
    for a soft label y eq. 2 is the sum over the classes of y_c times this. Probabilities that have become 0 count as
    the smallest positive number of their type, so that losses stay finite.

    Args:
        first: probabilities of the first network, averaged over superpixels, float32 or better.
        second: those of the second one.
        lam: weight of the disagreement in [0, 1]; the paper: 0.65.

    Shape:
        first, second and result (N, C, K).

    Example:
        >>> p = torch.tensor([[[0.5], [0.5]]])
        >>> class_losses(p, p).flatten().tolist()  # 2 * 0.35 * log 2
        [0.4852, 0.4852]

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, eq. 2.
    """
    log_first, log_second = (p.clamp(min=torch.finfo(p.dtype).tiny).log() for p in (first, second))
    disagreement = ((first - second) * (log_first - log_second)).sum(1, keepdim=True)
    return lam * disagreement - (1 - lam) * (log_first + log_second)


class SuperpixelUnits(NamedTuple):
    """What is selected, or given a new label, as a whole.

    Attributes:
        loss: loss of every unit, (N, U).
        size: its voxels, (N, U) int64; 0 for a unit that does not exist.
        given: class of its label, (N, U) int64.
    """

    loss: Tensor
    size: Tensor
    given: Tensor


def superpixel_units(losses: Tensor, counts: Tensor, variant: Variant = "paper") -> SuperpixelUnits:
    r"""Units of selection and their losses.

    - ``"paper"``: superpixels. The label is pooled too (eq. 1 and 2); the class is that of most of the voxels, of
      equally many the lowest.
    - ``"released"``: the voxels of a superpixel that have one and the same label. The authors' code compares the
      averaged probability with the label voxel by voxel and ranks the voxels; all voxels of such a unit have the
      same loss there.

    Args:
        losses: result of :func:`class_losses`.
        counts: result of :func:`~monai_noisylabel.selection.label_counts`.
        variant: see above.

    Shape:
        losses and counts (N, C, K); U = K (paper) or C K, class by class (released).

    Raises:
        ValueError: for an unknown variant.

    Example:
        >>> losses, counts = torch.tensor([[[0.2], [1.0]]]), torch.tensor([[[3], [1]]])
        >>> superpixel_units(losses, counts).loss.item()  # 3/4 * 0.2 + 1/4 * 1.0
        0.4
        >>> superpixel_units(losses, counts, "released").loss.tolist()
        [[0.2, 1.0]]

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, eq. 1 and 2, and its public code.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}.")
    if variant == "released":
        given = torch.arange(counts.shape[1], device=counts.device)[:, None].expand_as(counts)
        return SuperpixelUnits(losses.flatten(1), counts.flatten(1), given.flatten(1))
    size = counts.sum(1)
    share = counts.to(losses.dtype) / size.clamp(min=1)[:, None]
    return SuperpixelUnits((share * losses).sum(1), size, counts.argmax(1))


def unit_index(superpixels: SuperpixelMap, label: Tensor, num_classes: int, variant: Variant = "paper") -> Tensor:
    r"""The unit that every voxel belongs to, numbered as :func:`superpixel_units` does; U outside.

    Args:
        superpixels: superpixels of the voxels.
        label: their class values; only ``"released"`` looks at them.
        num_classes: C, classes including background.
        variant: as for :func:`superpixel_units`.

    Shape:
        label (N, 1, \*S); result (N, V).

    Example:
        >>> from monai_noisylabel.selection import superpixel_map
        >>> found = superpixel_map(torch.tensor([[[1, 1, 0, -1]]]))
        >>> label = torch.tensor([[[0, 1, 1, 1]]])
        >>> unit_index(found, label, 2).tolist(), unit_index(found, label, 2, "released").tolist()
        ([[1, 1, 0, 2]], [[1, 3, 2, 4]])
    """
    if variant == "paper":
        return superpixels.index
    limit = superpixels.limit
    units = label.flatten(1).long() * limit + superpixels.index
    return torch.where(superpixels.index == limit, num_classes * limit, units)


def mean_keep_rate(keep_rates: Tensor, voxels: Tensor) -> Tensor:
    r"""The share of right labels over all classes, from that within each.

    .. math:: R = \sum_c n_c R_c / \sum_c n_c

    Args:
        keep_rates: R_c in [0, 1].
        voxels: n_c, voxels labelled as each class.

    Shape:
        keep_rates and voxels (N, C); result (N, 1), 1 where there are no voxels.

    Example:
        >>> mean_keep_rate(torch.tensor([[1.0, 0.5]]), torch.tensor([[30, 10]])).tolist()
        [[0.875]]
    """
    total = voxels.sum(1, keepdim=True).clamp(min=1)
    return 1 - ((1 - keep_rates.double()) * voxels).sum(1, keepdim=True) / total


@torch.no_grad()
def select_units(loss: Tensor, size: Tensor, keep_rates: Tensor | float, given: Tensor | None = None) -> Tensor:
    r"""The units of smallest loss, taken until they hold the wanted share of the voxels.

    .. math:: \hat D_s = \arg\min_{D: N(D) \ge R M} \sum_{k \in D} \ell_k \quad (3)

    in the way it is meant: in the order of their losses, and not one more than needed. Equal losses are taken in the
    order of their numbers. What is left holds at most (1 - R) M voxels and has the largest losses: the unreliable
    set of eq. 6.

    Args:
        loss: losses of the units; each row is a selection of its own, of one image or of a batch.
        size: voxels per unit; 0: there is none.
        keep_rates: R in [0, 1], one for all, or one per row and class. R M is rounded up to whole voxels, but not by
            what rounding of R to float32 adds.
        given: class of each unit, from 0: every class is a selection of its own, by the rate of its column. None:
            all are one selection, by the rate of the first column.

    Shape:
        loss, size and given (N, U); keep_rates (), (N, C) or (1, C); result (N, U), bool.

    Raises:
        ValueError: if a rate is not in [0, 1], or a class has none.

    Example:
        >>> loss, size = torch.tensor([[0.3, 0.1, 0.2]]), torch.tensor([[4, 4, 4]])
        >>> select_units(loss, size, keep_rates=0.5).tolist()
        [[False, True, True]]
        >>> select_units(loss, size, torch.tensor([[1.0, 0.0]]), given=torch.tensor([[0, 1, 0]])).tolist()
        [[True, False, True]]

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, eq. 3 and 6.
    """
    rates = torch.as_tensor(keep_rates, dtype=torch.float64, device=loss.device)
    if not bool(((rates >= 0) & (rates <= 1)).all()):
        raise ValueError(f"Keep rates must lie in [0, 1], got {rates.tolist()}.")
    rates = rates.reshape(1, 1) if rates.ndim == 0 else rates
    classes = 1 if given is None or not given.numel() else int(given.max()) + 1
    if 1 < rates.shape[1] < classes:
        raise ValueError(f"There are units of {classes} classes, but keep rates of {rates.shape[1]}.")
    rates = rates[:, :classes].expand(len(loss), classes)
    given = torch.zeros_like(size) if given is None else given
    order = loss.argsort(dim=1, stable=True)
    ordered_size, ordered_given = size.gather(1, order), given.gather(1, order)
    taken = torch.zeros_like(ordered_size, dtype=torch.bool)
    for number in range(classes):
        member = ordered_given == number
        voxels = ordered_size * member
        total = voxels.sum(1, keepdim=True)
        needed = (rates[:, number : number + 1] * total - 1e-7 * total).ceil()
        taken |= member & (voxels > 0) & (voxels.cumsum(1) - voxels < needed)
    return torch.zeros_like(taken).scatter(1, order, taken)


def loss_gap(loss: Tensor, size: Tensor, selected: Tensor) -> Tensor:
    r"""How much larger the losses of the rest are than those of the selected units.

    .. math:: G = \frac{1}{K - |\hat D_s|} \sum_{k \notin \hat D_s} \ell_k
              - \frac{1}{|\hat D_s|} \sum_{k \in \hat D_s} \ell_k \quad (5)

    It grows while the network learns what the right labels have in common, and falls when it begins to fit the rest.

    Args:
        loss: losses of the units.
        size: voxels per unit; units without any do not count.
        selected: result of :func:`select_units`.

    Shape:
        all (N, U); result (N,), NaN where nothing or everything is selected.

    Example:
        >>> size, selected = torch.tensor([[5, 5, 5, 0]]), torch.tensor([[True, True, False, False]])
        >>> loss_gap(torch.tensor([[0.1, 0.3, 1.2, 7.0]]), size, selected).item()
        1.0

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, eq. 5.
    """
    rest = ~selected & (size > 0)
    means = [torch.where(part, loss, 0).sum(1) / part.sum(1) for part in (rest, selected)]
    return means[0] - means[1]
