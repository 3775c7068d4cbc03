"""A new label for a sample from its features and its prediction."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from monai_noisylabel.masks import from_masks, to_masks

from .cosine import check_features, cosines, widened
from .grid import grid_cells
from .prototype import average_prototype, prototypes

__all__ = ["Variant", "relabel"]

Variant = Literal["prototype", "average", "prediction"]


@torch.no_grad()
def relabel(
    features: torch.Tensor,
    prediction: torch.Tensor,
    *,
    num_classes: int,
    cells: int = 64,
    sigma: float = 0.7,
    mu: float = 0.7,
    variant: Variant = "prototype",
    multi_label: bool = False,
) -> torch.Tensor:
    r"""New label of one sample from its features and its prediction: label cleansing, section 2.3.

    Every foreground class is worked on by itself: its predicted region gives prototypes, and a voxel whose
    mean cosine similarity to them exceeds ``mu`` belongs to it. Follow with
    :func:`~monai_noisylabel.correction.postprocess.clean_up_label`, as the paper does.

    Robust to missing annotations and displaced boundaries, since the given label is not looked at, and to
    predictions wrong in parts. Not to be used on labels that are probably right, nor on features with
    strongly negative entries, whose cosines do not fit the thresholds. Runs in float32 or wider, also inside
    autocast regions; repeated calls agree bit for bit on a CPU, and on a GPU where
    ``torch.use_deterministic_algorithms`` is on.

    Args:
        features: full-resolution feature map of one sample, any floating type and device.
        prediction: predicted label of the same sample, multi-class or multi-label, whole numbers.
        num_classes: multi-class: number of classes including background; multi-label: number of channels.
        cells: grid cells along the longest axis, paper 64.
        sigma: threshold on the scaled representation degree in [0, 1), paper 0.7.
        mu: threshold on the similarity in [-1, 1), paper 0.7.
        variant: "prototype" (the method), "average" (one mean prototype) or "prediction" (the prediction
            itself): the three that the paper's table 4 compares.
        multi_label: whether the prediction has one binary channel per structure.

    Returns:
        The new label in the same form, uint8. A class with an empty predicted region is absent from it; the
        caller decides whether such a sample keeps its current label.

    Shape:
        features (d, \*S); prediction and result (1, \*S) for multi-class, (K, \*S) for multi-label.

    Raises:
        ValueError: if shapes, class values or thresholds do not fit, or a feature is not finite.

    Example:
        >>> features = torch.tensor([[1.0, 0.9, 0.0, 1.0], [0.1, 0.0, 1.0, 0.2]]).view(2, 1, 4)
        >>> relabel(features, torch.tensor([[[1, 1, 0, 0]]]), num_classes=2).tolist()
        [[[1, 1, 0, 1]]]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.

    Deviation:
        The paper describes one foreground class. With several, a multi-class voxel takes the class of the
        largest similarity among those above ``mu``, else background; multi-label channels are decided
        independently.
    """
    masks = _checked_masks(features, prediction, num_classes, multi_label, mu, variant)
    if variant == "prediction":
        return from_masks(masks, multi_label)
    features = widened(features)
    grid = grid_cells(features.shape[1:], cells, features.device)
    directions = features.new_zeros(len(masks), features.shape[0])
    for direction, region in zip(directions, masks, strict=True):
        average = variant == "average"
        found = average_prototype(features, region) if average else prototypes(features, region, grid, sigma)
        if len(found):
            direction.copy_(found.mean(0))
    scores = cosines(features, directions).view(masks.shape)
    scores[~masks.flatten(1).any(1)] = -torch.inf
    if multi_label:
        return from_masks(scores > mu, multi_label)
    best, winner = scores.max(0, keepdim=True)
    return torch.where(best > mu, winner + 1, 0).to(torch.uint8)


def _checked_masks(
    features: torch.Tensor,
    prediction: torch.Tensor,
    num_classes: int,
    multi_label: bool,
    mu: float,
    variant: str,
) -> torch.Tensor:
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}.")
    if not -1 <= mu < 1:
        raise ValueError(f"mu must lie in [-1, 1), got {mu}.")
    if num_classes < (1 if multi_label else 2):
        raise ValueError(f"num_classes leaves no foreground class, got {num_classes}.")
    check_features(features)
    expected = (num_classes if multi_label else 1, *features.shape[1:])
    if prediction.shape != expected:
        raise ValueError(f"prediction must have shape {expected}, got {tuple(prediction.shape)}.")
    largest = 1 if multi_label else num_classes - 1
    if prediction.numel() and (int(prediction.max()) > largest or int(prediction.min()) < 0):
        raise ValueError(f"prediction must hold values 0 to {largest}, found {prediction.unique().tolist()}.")
    return to_masks(prediction.as_subclass(torch.Tensor), None if multi_label else num_classes)
