"""Loss, selection and loss gap of superpixels against loops over the equations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from reference import superpixel_loops as loops
from torch import Tensor

from monai_noisylabel.selection import (
    class_losses,
    label_counts,
    loss_gap,
    select_units,
    spread,
    superpixel_map,
    superpixel_means,
    superpixel_units,
    unit_index,
)

SPACES = [(6, 7), (3, 4, 5)]
RATES = [Fraction(0), Fraction(3, 10), Fraction(7, 10), Fraction(9, 10), Fraction(1)]


def images(space: tuple[int, ...], classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilities of two networks, labels without the last class, and ids with gaps and voxels outside."""
    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randn(2, classes, *space, generator=generator).double().softmax(1) for _ in range(2))
    label = torch.randint(classes - 1, (2, 1, *space), generator=generator)
    ids = torch.tensor([-1, 0, 1, 3, 4, 8, 9])[torch.randint(7, (2, 1, *space), generator=generator)]
    return first, second, label, ids


def losses_of(first: Tensor, second: Tensor, label: Tensor, ids: Tensor, lam: float = 0.65) -> Tensor:
    found = superpixel_map(ids)
    pooled = [superpixel_means(p, found) for p in (first, second)]
    return superpixel_units(class_losses(*pooled, lam), label_counts(label, found, first.shape[1])).loss


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("lam", [0.0, 0.65, 1.0])
def test_loss_of_superpixels_equals_the_loops(space: tuple[int, ...], lam: float) -> None:
    first, second, label, ids = images(space)
    found = losses_of(first, second, label, ids, lam)
    for row in range(2):
        expected = loops.superpixel_losses(
            first[row].numpy(), second[row].numpy(), label[row, 0].numpy(), ids[row, 0].numpy(), lam
        )
        assert len(expected) == 6
        for k, value in expected.items():
            assert found[row, k].item() == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_selection_and_gap_equal_the_loops(space: tuple[int, ...], rate: Fraction) -> None:
    first, second, label, ids = images(space)
    size = superpixel_map(ids).sizes
    found = losses_of(first, second, label, ids)
    selected = select_units(found, size, float(rate))
    gaps = loss_gap(found, size, selected)
    for row in range(2):
        numbers = [k for k in range(size.shape[1]) if size[row, k] > 0]
        losses = {k: found[row, k].item() for k in numbers}
        sizes = {k: int(size[row, k]) for k in numbers}
        expected = loops.select(losses, sizes, rate)
        assert set(np.flatnonzero(selected[row]).tolist()) == expected
        # the rest is the unreliable set of equation 6
        assert set(numbers) - expected == loops.unreliable(losses, sizes, rate)
        if len(expected) in (0, len(numbers)):
            assert math.isnan(gaps[row])
        else:
            assert gaps[row].item() == pytest.approx(loops.gap(losses, expected), rel=1e-9)


@pytest.mark.parametrize("rate", [Fraction(n, 100) for n in range(101)], ids=str)
def test_share_is_exact_for_single_voxels_also_in_float32(rate: Fraction) -> None:
    # of 1000 voxels exactly R * 1000, although float32(0.8) lies above and float32(0.9) below the number meant
    loss = torch.randn(1, 1000, generator=torch.Generator().manual_seed(6))
    selected = select_units(loss, torch.ones(1, 1000, dtype=torch.int64), torch.tensor([[float(rate)]]))
    assert int(selected.sum()) == 1000 * rate
    if 0 < rate < 1:
        assert loss[selected].max() <= loss[~selected].min()


def test_equal_losses_are_taken_in_order() -> None:
    size = torch.full((1, 6), 3)
    assert select_units(torch.zeros(1, 6), size, 0.5).tolist() == [[True] * 3 + [False] * 3]
    many = select_units(torch.zeros(1, 5000), torch.ones(1, 5000, dtype=torch.int64), 0.5)
    assert many[0, :2500].all()
    assert not many[0, 2500:].any()


def test_every_class_is_a_selection_of_its_own() -> None:
    # class 0: losses 1 2 3 4 of 10 voxels each, a half; class 1: 5 6 of 2 voxels, all; class 2: there is none
    loss = torch.tensor([[4.0, 5.0, 1.0, 6.0, 2.0, 3.0]])
    given = torch.tensor([[0, 1, 0, 1, 0, 0]])
    size = torch.where(given == 1, 2, 10)
    selected = select_units(loss, size, torch.tensor([[0.5, 1.0, 0.3]]), given)
    assert selected.tolist() == [[False, True, True, True, True, False]]
    # without classes 22 of 44 voxels: 10, 10 and one more superpixel
    assert select_units(loss, size, 0.5).tolist() == [[False, False, True, False, True, True]]
    # a rate for all holds in each class
    assert select_units(loss, size, 0.5, given).tolist() == [[False, True, True, False, True, False]]


def test_rows_are_selected_from_apart() -> None:
    loss, size = torch.tensor([[1.0, 2.0], [8.0, 9.0]]), torch.ones(2, 2, dtype=torch.int64)
    assert select_units(loss, size, 0.5).tolist() == [[True, False], [True, False]]
    assert select_units(loss, size, torch.tensor([[1.0], [0.0]])).tolist() == [[True, True], [False, False]]
    assert select_units(loss.view(1, 4), size.view(1, 4), 0.5).tolist() == [[True, True, False, False]]


def test_a_number_without_voxels_is_neither_selected_nor_counted() -> None:
    loss, size = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0, 5, 5]])
    selected = select_units(loss, size, 0.5)
    assert selected.tolist() == [[False, True, False]]
    assert loss_gap(loss, size, selected).item() == 2.0
    nothing = select_units(torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.int64), 0.5, torch.zeros(1, 0).long())
    assert nothing.shape == (1, 0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_released_units_are_the_parts_of_superpixels_with_one_label(space: tuple[int, ...]) -> None:
    first, second, label, ids = images(space)
    found = superpixel_map(ids)
    pooled = [superpixel_means(p, found) for p in (first, second)]
    counts = label_counts(label, found, 3)
    units = superpixel_units(class_losses(*pooled), counts, "released")
    index = unit_index(found, label, 3, "released")
    spread_loss, spread_size, spread_class = (
        spread(part.double(), index, outside=-1).view(label.shape) for part in units
    )
    assert torch.equal(spread_class, torch.where(ids < 0, -1, label).double())
    for row in range(2):
        image, numbers = label[row, 0].numpy(), ids[row, 0].numpy()
        p, q = loops.means(first[row].numpy(), numbers), loops.means(second[row].numpy(), numbers)
        for k, pixels in loops.members(numbers).items():
            for position in pixels:
                same = sum(image[other] == image[position] for other in pixels)
                assert spread_size[row, 0][position].item() == same
                one_hot = [float(image[position] == c) for c in range(3)]
                expected = loops.joint_loss(p[k], q[k], one_hot, 0.65)
                assert spread_loss[row, 0][position].item() == pytest.approx(expected, rel=1e-9)


def test_losses_stay_finite_where_a_probability_has_become_0() -> None:
    certain = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    losses = class_losses(certain, certain.flip(1))
    assert losses.isfinite().all()
    # the label may be either: one network is right, the other one infinitely wrong, and both disagree
    assert losses.unique().numel() == 1
    assert losses.min() > 50


def test_wrong_input_is_refused() -> None:
    loss, size = torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"Keep rates must lie in \[0, 1\], got 1.5"):
        select_units(loss, size, 1.5)
    with pytest.raises(ValueError, match="Keep rates must lie"):
        select_units(loss, size, float("nan"))
    with pytest.raises(ValueError, match="units of 3 classes, but keep rates of 2"):
        select_units(loss, size, torch.ones(1, 2), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'printed'"):
        superpixel_units(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), "printed")
