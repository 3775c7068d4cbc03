"""Sums over superpixels against loops, for maps of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import superpixel_loops as loops
from torch import Tensor

from monai_noisylabel.selection import label_counts, spread, superpixel_map, superpixel_means

SPACES = [(6, 7), (3, 4, 5)]


def random_map(space: tuple[int, ...], numbers: list[int], seed: int = 0) -> Tensor:
    """Ids (2, 1, *S) drawn from the numbers."""
    picks = torch.randint(len(numbers), (2, 1, *space), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(numbers)[picks]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(
    "numbers",
    [[0, 1, 2], [4, 9, 17], [-1, 0, 2], [-7, 3, 16_777_215], [5_000_000_000, 1, 8]],
    ids=["from 0", "with gaps", "outside", "up to 2^24", "above 2^32"],
)
def test_means_and_label_shares_equal_the_loops(space: tuple[int, ...], numbers: list[int]) -> None:
    ids = random_map(space, numbers)
    values = torch.rand(2, 3, *space, generator=torch.Generator().manual_seed(1))
    label = random_map(space, [0, 1, 2], seed=2)
    found = superpixel_map(ids)
    pooled, counts = superpixel_means(values, found), label_counts(label, found, 3)
    for row in range(2):
        places = loops.members(ids[row, 0].numpy())
        expected = loops.means(values[row].numpy(), ids[row, 0].numpy())
        shares = loops.soft_labels(label[row, 0].numpy(), ids[row, 0].numpy(), 3)
        assert int((found.sizes[row] > 0).sum()) == len(places)
        for k, pixels in places.items():
            number = int(found.index[row].view(space)[pixels[0]])
            assert int(found.sizes[row, number]) == len(pixels)
            assert pooled[row, :, number].tolist() == pytest.approx(expected[k], rel=1e-5)
            assert (counts[row, :, number] / len(pixels)).tolist() == pytest.approx(shares[k])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_voxel_finds_its_superpixel_again(space: tuple[int, ...]) -> None:
    ids = random_map(space, [0, 1, 2, 3])
    found = superpixel_map(ids)
    values = torch.arange(8.0).view(2, 4)
    expected = torch.stack([values[row][ids[row].flatten()] for row in range(2)])
    assert torch.equal(spread(values, found.index), expected)


def test_a_mask_takes_voxels_out_as_negative_ids_do() -> None:
    ids = random_map((6, 7), [0, 1, 2])
    mask = torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) > 0.4
    masked, negative = superpixel_map(ids, mask), superpixel_map(ids.masked_fill(~mask, -3))
    assert torch.equal(masked.index, negative.index)
    assert torch.equal(masked.sizes, negative.sizes)
    assert int(masked.sizes.sum()) == int(mask.sum())
    both = superpixel_map(ids.masked_fill(~mask, -3), torch.ones_like(mask))
    assert torch.equal(both.index, negative.index)
    assert spread(torch.ones(2, masked.limit), masked.index, outside=-1).eq(-1).view(mask.shape).equal(~mask)


def test_nothing_inside() -> None:
    found = superpixel_map(torch.full((2, 1, 4, 4), -1))
    assert found.limit == 0
    assert superpixel_means(torch.rand(2, 3, 4, 4), found).shape == (2, 3, 0)
    assert spread(torch.zeros(2, 0), found.index).eq(0).all()


def test_ids_of_any_type_and_half_precision_values() -> None:
    ids = random_map((6, 7), [1, 2, 7])
    values = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(4))
    plain = superpixel_means(values.half().float(), superpixel_map(ids))
    for same in (ids.float(), ids.to(torch.uint8), ids.int()):
        found = superpixel_map(same)
        pooled = superpixel_means(values.half(), found)
        assert torch.equal(label_counts(same, found, 8), label_counts(ids, superpixel_map(ids), 8))
        assert pooled.dtype == torch.float32
        assert torch.equal(pooled, plain)


def test_gradient_of_a_mean_is_one_over_the_size() -> None:
    ids = torch.tensor([[[0, 0, 0, 2]]])
    values = torch.zeros(1, 1, 4, dtype=torch.float64, requires_grad=True)
    superpixel_means(values, superpixel_map(ids))[0, 0, 0].backward()
    np.testing.assert_allclose(values.grad, [[[1 / 3, 1 / 3, 1 / 3, 0]]])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"form \(N, 1, \*S\), got \(2, 2, 4, 4\)"):
        superpixel_map(torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match=r"mask must have the form of the ids, \(2, 1, 4, 4\), got \(2, 4, 4\)"):
        superpixel_map(torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match=r"classes 0 to 1, found \[0, 3\]"):
        label_counts(torch.tensor([[[0, 3]]]), superpixel_map(torch.zeros(1, 1, 2)), 2)
