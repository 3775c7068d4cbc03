"""New labels for the superpixels whose labels the networks contradict most."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_noisylabel.selection.superpixel import (
    SuperpixelUnits,
    Variant,
    class_losses,
    select_units,
    superpixel_units,
    unit_index,
)
from monai_noisylabel.selection.superpixel_map import label_counts, spread, superpixel_map, superpixel_means

__all__ = ["proposed_labels", "relabel_superpixels", "relabel_units"]


def proposed_labels(
    first: Tensor,
    second: Tensor,
    counts: Tensor,
    lam: float = 0.65,
    variant: Variant = "paper",
    shares: Tensor | None = None,
) -> tuple[SuperpixelUnits, Tensor]:
    r"""How unreliable the label of every unit is, and which class the networks propose for it.

    .. math:: \hat Y_k = \arg\max_c \pi_c \, \tfrac12 (P^1_s(c, k) + P^2_s(c, k)) \quad (7)

    - ``"paper"``: units are superpixels, ranked by the loss of eq. 2.
    - ``"released"``: units are the voxels of a superpixel that have one and the same label, ranked by how improbable
      that label is on average, as in the authors' code. A unit whose own class is the most probable one keeps it:
      with two classes, the averaged probability must be on the other side of 0.5.

    Args:
        first: probabilities of the first network, averaged over superpixels.
        second: those of the second one.
        counts: result of :func:`~monai_noisylabel.selection.label_counts`.
        lam: weight of the disagreement in eq. 2; the paper: 0.65.
        variant: see above.
        shares: pi, how frequent each class is, where the networks have learned all classes alike; see
            :func:`~monai_noisylabel.estimation.with_class_shares`. None: the paper's equation, all 1.

    Shape:
        first, second and counts (N, C, K); shares (N, C); class per unit (N, U), U = K (paper) or C K, class by class
        (released).

    Returns:
        The units, with what they are ranked by as their loss, and the proposed class of each.

    Raises:
        ValueError: for an unknown variant.

    Example:
        >>> p = torch.tensor([[[0.9, 0.2], [0.1, 0.8]]])
        >>> units, classes = proposed_labels(p, p, torch.tensor([[[4, 4], [0, 0]]]))
        >>> units.loss.tolist(), classes.tolist()  # -0.7 log 0.9, -0.7 log 0.2
        ([[0.0738, 1.1266]], [[0, 1]])

    Deviation:
        ``shares``: the paper's problems have one structure, about as large as its background.
    """
    mean = (first + second) / 2
    classes = (mean if shares is None else mean * shares[..., None].to(mean)).argmax(1)
    if variant == "released":
        return superpixel_units(1 - mean, counts, variant), classes.repeat(1, counts.shape[1])
    return superpixel_units(class_losses(first, second, lam), counts, variant), classes


def relabel_units(label: Tensor, index: Tensor, unreliable: Tensor, classes: Tensor) -> Tensor:
    r"""Give unreliable units their proposed class.

    .. math:: Y'_i = 1(S_i \in \hat D_u) \hat Y_{S_i} + 1(S_i \notin \hat D_u) Y_i \quad (8)

    Args:
        label: class values.
        index: unit of every voxel, U for voxels outside, which keep their label.
        unreliable: which units are relabelled.
        classes: the proposed class of each unit.

    Shape:
        label and result (N, 1, \*S); index (N, V); unreliable and classes (N, U).

    Example:
        >>> label, index = torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[0, 0, 1, 2]])
        >>> relabel_units(label, index, torch.tensor([[True, True]]), torch.tensor([[1, 0]])).tolist()
        [[[1, 1, 0, 1]]]
    """
    changed = spread(unreliable, index).view(label.shape)
    return torch.where(changed, spread(classes, index).view(label.shape).to(label.dtype), label)


@torch.no_grad()
def relabel_superpixels(
    label: Tensor,
    ids: Tensor,
    first: Tensor,
    second: Tensor,
    keep_rates: Tensor | float,
    *,
    per_class: bool = False,
    lam: float = 0.65,
    variant: Variant = "paper",
    mask: Tensor | None = None,
    shares: Tensor | None = None,
) -> Tensor:
    r"""Label refinement of superpixel-guided iterative learning: eq. 6 to 8, image by image.

    In every image the superpixels of largest loss, holding at most the share 1 - R of its voxels, take the class that
    two networks predict on average. Robust to wrong outlines and missing parts as far as the networks are; it always
    relabels the share it is told to, also in an image whose label is right, and cannot draw an outline that no
    superpixel has.

    :class:`~monai_noisylabel.handlers.SuperpixelRefinement` does the same over a whole training set.

    Args:
        label: class values from 0.
        ids: superpixel of every voxel, see :func:`~monai_noisylabel.selection.superpixel_map`.
        first: probabilities of the first network.
        second: those of the second one.
        keep_rates: R in [0, 1], the share of right labels: one number, or one per class.
        per_class: the share holds within the superpixels of each given class, instead of all.
        lam: weight of the disagreement; the paper: 0.65.
        variant: ``"paper"`` or ``"released"``, see :func:`proposed_labels`; the latter is per class always.
        mask: voxels that count; None: all.
        shares: see :func:`proposed_labels`.

    Shape:
        label, ids, mask and result (N, 1, \*S); first and second (N, C, \*S); keep_rates (), (N, C) or (1, C);
        shares (N, C) or (1, C).

    Raises:
        ValueError: if shapes, classes, rates or the variant do not fit.

    Example:
        >>> label, ids = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[[0, 0, 1, 2]]])
        >>> p = torch.tensor([[[0.1, 0.2, 0.9, 0.1], [0.9, 0.8, 0.1, 0.9]]])
        >>> relabel_superpixels(label, ids, p, p, keep_rates=0.5).tolist()
        [[[1, 1, 0, 1]]]

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, section 2.2.

    Deviation:
        ``per_class``: the paper has one R; its code has one per given class.
    """
    superpixels = superpixel_map(ids, mask)
    counts = label_counts(label, superpixels, first.shape[1])
    first, second = (superpixel_means(probability, superpixels) for probability in (first, second))
    units, classes = proposed_labels(first, second, counts, lam, variant, shares)
    given = units.given if per_class or variant == "released" else None
    reliable = select_units(units.loss, units.size, keep_rates, given)
    index = unit_index(superpixels, label, first.shape[1], variant)
    return relabel_units(label, index, ~reliable, classes)
