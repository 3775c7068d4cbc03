"""The grid over which region features are averaged before prototypes are chosen among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["grid_cells"]


def grid_cells(spatial_shape: Sequence[int], cells: int = 64, device: torch.device | None = None) -> torch.Tensor:
    """Index of the grid cell each voxel belongs to, of square (2D) or cubic (3D) cells.

    The edge of a cell is ``max(1, round(longest axis / cells))`` voxels on every axis; the last cell of an
    axis is smaller where the edge does not divide the axis.

    Args:
        spatial_shape: size of the map in voxels, (H, W) or (H, W, D).
        cells: number of cells along the longest axis (paper: 64).
        device: where the result is made.

    Returns:
        Cell index, int64, counted in the order of the axes from 0.

    Shape:
        result ``spatial_shape``.

    Raises:
        ValueError: if ``cells`` or an axis is smaller than 1.

    Example:
        >>> grid_cells((2, 4), cells=2).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
        >>> int(grid_cells((256, 256)).max()) + 1
        4096

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.3.

    Deviation:
        The paper cuts square maps into K x K cells and does not speak of volumes. Here the longest axis is
        cut into about ``cells`` parts and the other axes get the same edge, so that cells stay square or
        cubic.
    """
    if cells < 1:
        raise ValueError(f"cells must be at least 1, got {cells}.")
    if len(spatial_shape) == 0 or min(spatial_shape) < 1:
        raise ValueError(f"spatial_shape must have axes of at least one voxel, got {tuple(spatial_shape)}.")
    edge = max(1, round(max(spatial_shape) / cells))
    index = torch.zeros((), dtype=torch.int64, device=device)
    for size in spatial_shape:
        along_axis = torch.arange(size, device=device) // edge
        index = index[..., None] * -(-size // edge) + along_axis
    return index
