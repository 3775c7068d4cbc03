"""Label correction by class prototypes: representative cells of the predicted region vote on every voxel."""

from __future__ import annotations

import torch

from .cosine import check_features, cosines, unit_vectors, widened

__all__ = ["average_prototype", "prototypes", "representation_degree", "similarity"]

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
        >>> from monai_noisylabel.correction import grid_cells
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


def _check_map(features: torch.Tensor, values: torch.Tensor, name: str) -> None:
    check_features(features)
    if values.shape != features.shape[1:]:
        expected = tuple(features.shape[1:])
        raise ValueError(f"{name} must have the shape of the map, {expected}, got {tuple(values.shape)}.")
