"""Exactly so many voxels of every class are left out, those of largest loss, whatever else is the case."""

from __future__ import annotations

import pytest
import torch
from reference import peer_losses
from torch import Tensor

from monai_noisylabel.selection import as_keep_rates, class_balanced_mean, forget_rates, small_loss_weight

SPACES = [(6, 7), (3, 4, 5)]
FORGET = torch.tensor([0.3, 0.5, 0.25])


def batch(space: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *space, generator=generator), torch.randint(0, 3, (2, 1, *space), generator=generator)


def voxels(label: Tensor, weight: Tensor | None = None) -> list[peer_losses.Voxel]:
    shape = (label.shape[0], 2 * label.shape[1], *label.shape[2:])
    read = peer_losses.exclusive if label.shape[1] == 1 else peer_losses.independent
    return read(torch.zeros(shape), label, 2, weight)


def dropped(keep: Tensor, label: Tensor) -> list[int]:
    return [int(((keep == 0) & (label == value)).sum()) for value in range(3)]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("scope", ["batch", "image"])
@pytest.mark.parametrize("seed", range(3))
class TestAgainstSortedLists:
    def test_multi_class(self, space: tuple[int, ...], scope: str, seed: int) -> None:
        loss, label = batch(space, seed)
        keep = small_loss_weight(loss, label, FORGET, scope=scope)
        expected = peer_losses.smallest(loss.flatten().tolist(), voxels(label), [FORGET.tolist()], scope)
        assert keep.shape == loss.shape
        assert keep.dtype == torch.float32
        assert keep.flatten().bool().tolist() == expected

    def test_multi_label_with_weights(self, space: tuple[int, ...], scope: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        loss = torch.rand(2, 3, *space, generator=generator)
        label = torch.rand(2, 3, *space, generator=generator) < torch.tensor([0.1, 0.4, 0.8]).view(3, *[1] * len(space))
        weight = torch.rand(2, 1, *space, generator=generator).sub(0.3).clamp(min=0)
        forget = torch.tensor([[0.5, 0.0], [0.2, 1.0], [0.3, 0.3]])
        keep = small_loss_weight(loss, label, forget, weight, scope)
        expected = peer_losses.smallest(loss.flatten().tolist(), voxels(label, weight), forget.tolist(), scope)
        assert keep.flatten().bool().tolist() == expected


@pytest.mark.parametrize("scope", ["batch", "image"])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_the_count_is_exact_and_the_first_of_equal_losses_go(scope: str, levels: int) -> None:
    loss, label = batch((9, 11))
    loss = (loss * levels).floor()
    keep = small_loss_weight(loss, label, FORGET, scope=scope)
    samples = [slice(None)] if scope == "batch" else [slice(0, 1), slice(1, 2)]
    for sample in samples:
        sizes = label[sample].flatten().bincount(minlength=3)
        assert dropped(keep[sample], label[sample]) == [int(f * n) for f, n in zip(FORGET.tolist(), sizes, strict=True)]
    expected = peer_losses.smallest(loss.flatten().tolist(), voxels(label), [FORGET.tolist()], scope)
    assert keep.flatten().bool().tolist() == expected


def test_rates_of_0_and_1_and_a_share_of_less_than_one_voxel() -> None:
    loss, label = batch((6, 7))
    assert small_loss_weight(loss, label, torch.zeros(3)).all()
    assert not small_loss_weight(loss, label, torch.ones(3)).any()
    only = small_loss_weight(loss, label, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(only == 0, label == 1)
    assert small_loss_weight(loss, label, torch.full((3,), 0.9 / label.numel())).all()


def test_absent_classes_change_nothing() -> None:
    loss, label = batch((6, 7))
    label[label == 1] = 0
    keep = small_loss_weight(loss, label, torch.tensor([0.0, 1.0, 0.0]))
    assert keep.all()
    empty = small_loss_weight(loss, torch.zeros_like(label), FORGET)
    assert int((empty == 0).sum()) == int(0.3 * label.numel())


def test_a_class_is_judged_by_itself() -> None:
    loss, label = batch((9, 11))
    hard = torch.where(label == 2, loss + 10, loss)
    assert torch.equal(small_loss_weight(hard, label, FORGET), small_loss_weight(loss, label, FORGET))


def test_voxels_of_weight_0_are_neither_counted_nor_kept() -> None:
    loss, label = batch((6, 7))
    weight = torch.ones(2, 1, 6, 7)
    weight[1] = 0
    alone = small_loss_weight(loss[:1], label[:1], FORGET)
    for form in (weight, torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)):
        keep = small_loss_weight(loss, label, FORGET, form)
        assert torch.equal(keep[:1], alone)
        assert not keep[1].any()


def test_layout_in_memory_does_not_matter() -> None:
    loss, label = batch((6, 7))
    loss = (3 * loss).floor()
    turned = small_loss_weight(loss.mT.contiguous().mT, label.mT.contiguous().mT, FORGET)
    assert torch.equal(turned, small_loss_weight(loss, label, FORGET))


def test_more_voxels_than_a_quantile_of_torch_takes() -> None:
    size = 2**24 + 3
    loss = torch.arange(size, dtype=torch.float32).view(1, 1, size)
    keep = small_loss_weight(loss, torch.zeros(1, 1, size, dtype=torch.uint8), torch.tensor([0.25]))
    count = int(0.25 * size)
    assert int((keep == 0).sum()) == count
    assert not keep[..., -count + 1 :].any()


def test_no_gradient_is_taken_through_the_choice() -> None:
    loss, label = batch((6, 7))
    assert not small_loss_weight(loss.requires_grad_(), label, FORGET).requires_grad


def test_what_does_not_fit_is_refused() -> None:
    loss, label = batch((6, 7))
    with pytest.raises(ValueError, match="scope must be 'batch' or 'image', got 'volume'"):
        small_loss_weight(loss, label, FORGET, scope="volume")  # type: ignore[arg-type]
    wide, two = torch.zeros(2, 2, 6, 7), torch.zeros(2, 2)
    for arguments in ((loss, label[:1], FORGET), (wide, wide, FORGET), (loss, label, two), (loss[0, 0], label, FORGET)):
        with pytest.raises(ValueError, match=r"\(B, 1, \*S\) with forget_rates \(C,\), or \(B, K, \*S\)"):
            small_loss_weight(*arguments)


def test_ramp() -> None:
    keep = torch.tensor([1.0, 0.5, 0.0])
    ramp = torch.stack([forget_rates(epoch, keep) for epoch in range(8)])
    share = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    torch.testing.assert_close(ramp, share[:, None] * torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(forget_rates(0, keep, ramp_epochs=0), 1 - keep)
    assert forget_rates(3, torch.full((4, 2), 0.5), ramp_epochs=6).tolist() == [[0.25, 0.25]] * 4


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_class_balanced_mean_against_sums_by_class(space: tuple[int, ...], channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    value = torch.rand(2, channels, *space, generator=generator, dtype=torch.float64).requires_grad_()
    classes = 4 if channels == 1 else 2
    label = torch.randint(0, classes, value.shape, generator=generator)
    label[label == 1] = 0 if channels == 1 else 1  # class 1 of 4 is absent
    weight = torch.rand(2, 1, *space, generator=generator, dtype=torch.float64).sub(0.4).clamp(min=0)
    mean = class_balanced_mean(value, label, classes, weight)
    listed = voxels(label, weight)
    kept = [voxel.weight > 0 for voxel in listed]
    assert mean.item() == pytest.approx(peer_losses.class_balanced(value.flatten().tolist(), listed, kept))
    slope = torch.autograd.grad(mean, value)[0]
    assert torch.equal(slope != 0, (weight > 0).expand_as(slope))


def test_class_balanced_mean_of_nothing_is_0() -> None:
    value = torch.rand(1, 1, 4, requires_grad=True)
    mean = class_balanced_mean(value, torch.zeros(1, 1, 4), 2, torch.zeros(1, 1, 4))
    assert mean.item() == 0
    assert not torch.autograd.grad(mean, value)[0].any()


def test_keep_rates_take_the_form_of_the_classes() -> None:
    assert as_keep_rates(0.5, 2, multi_label=True).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    rates = as_keep_rates((1.0, 0.25), 2, multi_label=False)
    assert rates.dtype == torch.float32
    assert rates.tolist() == [1.0, 0.25]
    several = as_keep_rates(1.0, 2, multi_label=False)
    several[0] = 0.5  # not a view of one number
    assert several.tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"one for every class, background first, form \(3,\); got form \(2,\)"):
        as_keep_rates([0.5, 0.5], 3, multi_label=False)
    with pytest.raises(ValueError, match=r"labels 0 and 1\), form \(2, 2\); got form \(2,\)"):
        as_keep_rates([0.5, 0.5], 2, multi_label=True)
    for wrong in (1.5, -0.1, [0.5, float("nan")]):
        with pytest.raises(ValueError, match="shares between 0 and 1"):
            as_keep_rates(wrong, 2, multi_label=False)
