from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import prototype_loops

from monai_noisylabel.correction import grid_cells


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (3, 10), (6, 4, 5)])
@pytest.mark.parametrize("cells", [1, 3, 4, 64])
def test_matches_the_enumerated_grids(shape: tuple[int, ...], cells: int) -> None:
    expected = np.full(shape, -1)
    for index, positions in enumerate(prototype_loops.grids(shape, cells)):
        for position in positions:
            expected[position] = index
    assert grid_cells(shape, cells).tolist() == expected.tolist()


def test_256_is_cut_into_64_by_64_cells_of_4_by_4_voxels() -> None:
    cells = grid_cells((256, 256))
    assert cells.dtype == torch.int64
    assert torch.bincount(cells.flatten()).tolist() == [16] * 64 * 64


def test_non_square_map_gets_square_cells() -> None:
    # Longest axis 12 in 4 parts: edge 3, so the axis of 4 voxels has one whole cell and one of a single
    # voxel.
    cells = grid_cells((4, 12), cells=4)
    assert cells[:3, :3].unique().tolist() == [0]
    assert cells[3].tolist() == [4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]


def test_volume_gets_the_same_edge_on_every_axis() -> None:
    counts = torch.bincount(grid_cells((8, 8, 4), cells=4).flatten())
    assert counts.tolist() == [8] * (4 * 4 * 2)


def test_more_cells_than_voxels_gives_one_voxel_cells() -> None:
    assert grid_cells((2, 3), cells=64).flatten().tolist() == list(range(6))


def test_errors() -> None:
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        grid_cells((4, 4), cells=0)
    with pytest.raises(ValueError, match=r"at least one voxel, got \(4, 0\)"):
        grid_cells((4, 0))
