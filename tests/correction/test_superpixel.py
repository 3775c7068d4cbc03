"""Relabelling of superpixels against loops over the equations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from reference import superpixel_loops as loops
from torch import Tensor

from monai_noisylabel.correction import relabel_superpixels

SPACES = [(6, 7), (3, 4, 5)]


def images(space: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels without the last class, ids with gaps and voxels outside, probabilities of two networks."""
    generator = torch.Generator().manual_seed(7)
    label = torch.randint(2, (2, 1, *space), generator=generator)
    ids = torch.tensor([-1, 0, 1, 3, 4, 8, 9, 11])[torch.randint(8, (2, 1, *space), generator=generator)]
    first, second = (torch.randn(2, 3, *space, generator=generator).double().softmax(1) for _ in range(2))
    return label, ids, first, second


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("rate", [Fraction(0), Fraction(4, 10), Fraction(75, 100), Fraction(1)], ids=str)
def test_refined_label_equals_the_loops(space: tuple[int, ...], rate: Fraction) -> None:
    label, ids, first, second = images(space)
    found = relabel_superpixels(label, ids, first, second, float(rate))
    for row in range(2):
        p, q, image, numbers = (part[row].numpy() for part in (first, second, label[:, 0], ids[:, 0]))
        losses = loops.superpixel_losses(p, q, image, numbers)
        sizes = {k: len(pixels) for k, pixels in loops.members(numbers).items()}
        chosen = loops.unreliable(losses, sizes, rate)
        assert len(chosen) == (len(sizes) if rate == 0 else 0) or rate not in (0, 1)
        np.testing.assert_array_equal(found[row, 0], loops.refined(p, q, image, numbers, chosen))
    if rate == 1:
        assert torch.equal(found, label)
    elif rate == 0:
        assert (found == 2).any(), "the class that no label has is proposed somewhere"


def two_halves(width: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Two halves, superpixels of four voxels, and a network that finds class 1 two superpixels further left."""
    label = (torch.arange(width) >= width // 2).long().view(1, 1, width)
    ids = (torch.arange(width) // 4).view(1, 1, width)
    one = torch.where(torch.arange(width) >= width // 2 - 8, 0.9, 0.1)
    return label, ids, torch.stack([1 - one, one])[None]


def test_per_class_shares() -> None:
    label, ids, p = two_halves()
    # the two superpixels of class 0 with the largest loss lie left of the middle; of class 1 all losses are equal
    # and the last ones are taken, whose class is confirmed
    refined = relabel_superpixels(label, ids, p, p, torch.tensor([[0.6, 0.6]]), per_class=True)
    assert refined.flatten().nonzero().min() == 12
    # a class whose labels are all right keeps them: in the class 0 nothing changes
    kept = relabel_superpixels(label, ids, p, p, torch.tensor([[1.0, 0.6]]), per_class=True)
    assert torch.equal(kept, label)
    # one rate over all voxels: 10 % are one superpixel, of equal losses the last one
    some = relabel_superpixels(label, ids, p, p, 0.9)
    assert (some != label).flatten().nonzero().flatten().tolist() == [16, 17, 18, 19]


def test_released_relabels_per_class_and_only_what_is_predicted_otherwise() -> None:
    label, ids, p = two_halves()
    label[..., 8] = 1  # one voxel of the third superpixel is labelled as class 1
    refined = relabel_superpixels(label, ids, p, p, torch.tensor([[0.0, 0.0]]), variant="released")
    assert torch.equal(refined, p.argmax(1, keepdim=True))
    # of 21 voxels of class 1 at most a tenth: two; the lone voxel is the least probable one, and the next unit of
    # four voxels is too large; of the class 0 nothing
    refined = relabel_superpixels(label, ids, p, p, torch.tensor([[1.0, 0.9]]), variant="released")
    assert (refined != label).flatten().nonzero().flatten().tolist() == [8]
    # the paper's variant takes the superpixel as a whole, here with the class of most of its voxels
    paper = relabel_superpixels(label, ids, p, p, torch.tensor([[1.0, 0.9]]), per_class=True)
    assert torch.equal(paper, label)


def test_released_averages_the_two_networks() -> None:
    # P(class 1) is 0.9 and 0.2: 0.55 on average, on the other side; 0.9 and 0.05 are not
    label, ids = torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[0, 0, 1, 1]]])
    one, two = torch.full((4,), 0.9), torch.tensor([0.2, 0.2, 0.05, 0.05])
    first, second = (torch.stack([1 - p, p])[None] for p in (one, two))
    refined = relabel_superpixels(label, ids, first, second, torch.tensor([[0.0, 0.0]]), variant="released")
    assert refined.tolist() == [[[1, 1, 0, 0]]]


def test_released_ranks_by_the_averaged_probability_of_the_given_class() -> None:
    # two superpixels whose given class 0 has the probabilities 0.45 and 0.05, or 0.2 twice: 0.25 and 0.2 on average.
    # The loss of equation 2 is larger for the first, -log 0.45 - log 0.05 being 3.8 and -2 log 0.2 3.2.
    label, ids = torch.zeros(1, 1, 2, dtype=torch.long), torch.tensor([[[0, 1]]])
    zero = torch.tensor([[0.45, 0.2], [0.05, 0.2]])
    first, second = (torch.stack([p, 1 - p])[None] for p in zero)
    for variant, flipped in (("released", [[[0, 1]]]), ("paper", [[[1, 0]]])):
        refined = relabel_superpixels(label, ids, first, second, 0.5, variant=variant)
        assert refined.tolist() == flipped


def test_voxels_outside_keep_their_labels_and_types_stay() -> None:
    label, ids, first, second = images((6, 7))
    mask = torch.rand(ids.shape, generator=torch.Generator().manual_seed(8)) > 0.5
    refined = relabel_superpixels(label.to(torch.uint8), ids, first, second, 0.0, mask=mask)
    assert refined.dtype == torch.uint8
    assert torch.equal(refined[~mask], label[~mask].to(torch.uint8))
    assert (refined != label)[mask & (ids >= 0)].any()


def test_wrong_input_is_refused() -> None:
    label, ids, first, second = images((6, 7))
    with pytest.raises(ValueError, match="Keep rates must lie"):
        relabel_superpixels(label, ids, first, second, -0.1)
    with pytest.raises(ValueError, match="Labels must hold the classes 0 to 2"):
        relabel_superpixels(label + 2, ids, first, second, 0.5)
    with pytest.raises(ValueError, match="variant must be one of"):
        relabel_superpixels(label, ids, first, second, 0.5, variant="printed")
