"""Label correction by class prototypes: representative cells of the predicted region vote on every voxel."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from monai_noisylabel.masks import from_masks, to_masks

from .cosine import cosines, unit_vectors, widened
from .grid import grid_cells

__all__ = ["average_prototype", "prototypes", "relabel", "representation_degree", "similarity"]

Variant = Literal["prototype", "prediction", "average"]

# Mean cosines that differ by less than this between cells are rounding, not structure.
_EQUAL = 1e-5


def representation_degree(cell_features: torch.Tensor) -> torch.Tensor:
    r"""How well each grid cell represents the region that all the given cells make up (eq. 5).

    .. math:: D(g_j) = \sum_k \cos(f(g_j), f(g_k)) = \tilde f_j \cdot \sum_k \tilde f_k

    with :math:`\tilde f` the unit vectors. The right-hand side is an identity that needs O(N d) operations
    instead of the O(N\ :sup:`2` d) of the double sum. A cell with a zero feature has cosine 0 with
    everything.

    Args:
        cell_features: one feature vector per cell of the region, any scale.

    Returns:
        D, float32 or wider, in [-N, N]; not normalised.

    Shape:
        cell_features (N, d); result (N,).

    Example:
        >>> representation_degree(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])).tolist()
        [2.0, 2.0, 1.0]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.
    """
    unit = unit_vectors(widened(cell_features))
    return (unit * unit.sum(0)).sum(1)


@torch.no_grad()
def prototypes(features: torch.Tensor, region: torch.Tensor, cells: torch.Tensor, sigma: float = 0.7) -> torch.Tensor:
    r"""Features of the grid cells that represent a region best (eq. 4 and 5).

    The feature of a cell is the mean over its voxels inside the region; cells without such voxels take no
    part. Cells whose representation degree, scaled to [0, 1] by its extremes, exceeds ``sigma`` are the
    prototypes. Where all cells represent the region equally well, all are.

    Robust to a suspected region that is wrong in parts, as long as most of its cells show the structure. Not
    to be used where the region is wrong as a whole: the prototypes then represent the error.

    Args:
        features: feature map of one sample, any floating type; worked on in float32 or wider.
        region: bool, the suspected region of one structure, usually the prediction.
        cells: cell index of each voxel from :func:`~monai_noisylabel.correction.grid.grid_cells`.
        sigma: threshold on the scaled representation degree in [0, 1), paper 0.7.

    Returns:
        Unit vectors in the order of the cells; none for an empty region.

    Shape:
        features (d, \*S), region (\*S), cells (\*S); result (M, d), M <= number of cells.

    Raises:
        ValueError: if the shapes do not fit, a feature in the region is not finite, or ``sigma`` is outside
            [0, 1).

    Example:
        >>> features = torch.tensor([[1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.5, 1.0]]).view(2, 1, 4)
        >>> cells = grid_cells((1, 4), cells=4)
        >>> prototypes(features, torch.ones(1, 4, dtype=torch.bool), cells).numpy().round(3).tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.894, 0.447]]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.
    """
    _check_map(features, region, "region")
    _check_map(features, cells, "cells")
    if not 0 <= sigma < 1:
        raise ValueError(f"sigma must lie in [0, 1), got {sigma}.")
    inside = region.flatten().nonzero()[:, 0]
    cell_features = _cell_sums(features, inside, cells.flatten()[inside])
    if cell_features.shape[0] == 0:
        return cell_features
    degree = representation_degree(cell_features)
    lowest, span = degree.min(), degree.max() - degree.min()
    equal = span <= _EQUAL * degree.numel()
    return unit_vectors(cell_features[((degree - lowest) > sigma * span) | equal])


@torch.no_grad()
def average_prototype(features: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    r"""The one prototype of the paper's ablation "avg": the mean feature of the region, as a unit vector.

    Robust to little: voxels that do not belong to the structure enter with full weight. It is there to be
    compared with :func:`prototypes`.

    Args:
        features: feature map of one sample, any floating type; worked on in float32 or wider.
        region: bool, the suspected region of one structure.

    Shape:
        features (d, \*S), region (\*S); result (1, d), or (0, d) for an empty region.

    Raises:
        ValueError: if the shapes do not fit or a feature in the region is not finite.

    Example:
        >>> features = torch.tensor([[3.0, 0.0, 9.0], [4.0, 0.0, 9.0]]).view(2, 1, 3)
        >>> average_prototype(features, torch.tensor([[True, True, False]])).numpy().round(3).tolist()
        [[0.6, 0.8]]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 3.6.
    """
    _check_map(features, region, "region")
    inside = region.flatten().nonzero()[:, 0]
    return unit_vectors(_cell_sums(features, inside, torch.zeros_like(inside)))


@torch.no_grad()
def similarity(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    r"""Mean cosine similarity of every voxel to the prototypes of one structure (eq. 6).

    .. math:: P_{fg}(q) = \frac1M \sum_m \cos(f(q), proto_m) = \tilde f(q) \cdot \frac1M \sum_m
    \widetilde{proto}_m

    The right-hand side is an identity: one matrix-vector product, whatever the number of prototypes. A voxel
    with a zero feature has similarity 0.

    Args:
        features: feature map of one sample, any floating type; worked on in float32 or wider. Non-negative
            features (after a ReLU) keep similarities in [0, 1], where the thresholds of the paper belong.
        prototypes: at least one prototype, any scale.

    Shape:
        features (d, \*S), prototypes (M, d); result (\*S).

    Raises:
        ValueError: if there is no prototype, the lengths d differ, or a feature is not finite.

    Example:
        >>> features = torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 4.0]]).view(2, 1, 3)
        >>> similarity(features, torch.eye(2)).numpy().round(3).tolist()
        [[0.5, 0.5, 0.7]]

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.
    """
    if prototypes.ndim != 2 or prototypes.shape[0] == 0 or prototypes.shape[1] != features.shape[0]:
        raise ValueError(
            f"prototypes must have shape (M, {features.shape[0]}) with M >= 1 to fit the features, "
            f"got {tuple(prototypes.shape)}."
        )
    direction = unit_vectors(widened(prototypes)).mean(0, keepdim=True)
    return cosines(features, direction).view(features.shape[1:])


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


def _cell_sums(features: torch.Tensor, inside: torch.Tensor, cell_of: torch.Tensor) -> torch.Tensor:
    """Sums (N, d) over the cells that occur; eq. 4 but for a positive factor, which no cosine sees."""
    chosen = widened(features.flatten(1).index_select(1, inside))
    count = int(cell_of.max()) + 1 if cell_of.numel() else 0
    sums = chosen.new_zeros(chosen.shape[0], count).index_add_(1, cell_of, chosen)
    occurs = torch.zeros(count, dtype=torch.bool, device=chosen.device).index_fill_(0, cell_of, True)
    found = sums[:, occurs].T
    if not torch.isfinite(found).all():
        raise ValueError("features holds NaN or infinity inside the region: the network has diverged.")
    return found


def _check_features(features: torch.Tensor) -> None:
    if features.ndim < 2 or not features.is_floating_point():
        shape = tuple(features.shape)
        raise ValueError(f"features must be floating point of shape (d, *S), got {features.dtype} {shape}.")


def _check_map(features: torch.Tensor, values: torch.Tensor, name: str) -> None:
    _check_features(features)
    if values.shape != features.shape[1:]:
        expected = tuple(features.shape[1:])
        raise ValueError(f"{name} must have the shape of the map, {expected}, got {tuple(values.shape)}.")


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
    _check_features(features)
    expected = (num_classes if multi_label else 1, *features.shape[1:])
    if prediction.shape != expected:
        raise ValueError(f"prediction must have shape {expected}, got {tuple(prediction.shape)}.")
    largest = 1 if multi_label else num_classes - 1
    if prediction.numel() and (int(prediction.max()) > largest or int(prediction.min()) < 0):
        raise ValueError(f"prediction must hold values 0 to {largest}, found {prediction.unique().tolist()}.")
    return to_masks(prediction.as_subclass(torch.Tensor), None if multi_label else num_classes)
