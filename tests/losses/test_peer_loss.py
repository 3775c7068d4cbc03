"""What the losses of peers promise in common: equations against loops, choices, weights, precision, errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from reference import peer_losses
from torch import Tensor

from monai_noisylabel.losses import CoTeachingLoss, JoCoRLoss, TriNetworkLoss
from monai_noisylabel.losses.peer_loss import PeerLoss

Reference = Callable[[Sequence[peer_losses.Voxel], peer_losses.Choice], float]

BUILD: dict[str, Callable[..., PeerLoss]] = {
    "co_teaching": CoTeachingLoss,
    "jocor": JoCoRLoss,
    "tri_network, agreement": partial(TriNetworkLoss, rule="agreement"),
    "tri_network, intersection": partial(TriNetworkLoss, rule="intersection"),
}
REFERENCE: dict[str, Reference] = {
    "co_teaching": peer_losses.co_teaching,
    "jocor": partial(peer_losses.jocor, lam=0.65),
    "tri_network, agreement": partial(peer_losses.tri_network, rule="agreement"),
    "tri_network, intersection": partial(peer_losses.tri_network, rule="intersection"),
}
KEEP = [0.9, 0.6, 0.75]
SPACES = [(5, 7), (3, 4, 5)]
NAMES = list(BUILD)


def build(name: str, keep_rates: Any = KEEP, **settings: Any) -> PeerLoss:
    """Three channels per network, the whole share left out from the start."""
    return BUILD[name](3, keep_rates, **{"ramp_epochs": 0, **settings})


def batch(name: str, space: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, 3 * build(name).peers, *space, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(0, 3, (2, 1, *space), generator=generator)


def structures(target: Tensor) -> Tensor:
    """Three overlapping structures."""
    return torch.cat([target > 0, target == 1, target == 2], 1).to(torch.uint8)


def weights(space: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(2, 1, *space, generator=generator, dtype=torch.float64).sub(0.25).clamp(min=0)


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits)[0]


def small(voxels: Sequence[peer_losses.Voxel], keep_rates: Tensor, share: float, scope: str) -> peer_losses.Choice:
    forget = [[share * (1 - rate) for rate in rates] for rates in keep_rates.view(-1, keep_rates.shape[-1]).tolist()]
    return lambda values: peer_losses.smallest(values, voxels, forget, scope)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", NAMES)
class TestAgainstLoops:
    @pytest.mark.parametrize("scope", ["batch", "image"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_multi_class(self, name: str, space: tuple[int, ...], scope: str, weighted: bool) -> None:
        logits, target = batch(name, space)
        weight = weights(space) if weighted else None
        loss = build(name, scope=scope).double()
        voxels = peer_losses.exclusive(logits, target, loss.peers, weight)
        expected = REFERENCE[name](voxels, small(voxels, loss.keep_rates, 1.0, scope))
        assert loss(logits, target, weight).item() == pytest.approx(expected, rel=1e-9)

    def test_multi_label(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        loss = build(name, [[0.9, 0.5], [0.7, 0.8], [1.0, 0.6]], sigmoid=True).double()
        voxels = peer_losses.independent(logits, structures(target), loss.peers, weights(space))
        expected = REFERENCE[name](voxels, small(voxels, loss.keep_rates, 1.0, "batch"))
        assert loss(logits, structures(target), weights(space)).item() == pytest.approx(expected, rel=1e-9)

    def test_on_the_ramp(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        loss = build(name, ramp_epochs=4).double()
        voxels = peer_losses.exclusive(logits, target, loss.peers)
        values = []
        for loss.epoch in (0, 2, 4, 9):
            expected = REFERENCE[name](voxels, small(voxels, loss.keep_rates, min(1, loss.epoch / 4), "batch"))
            values.append(loss(logits, target).item())
            assert values[-1] == pytest.approx(expected, rel=1e-9)
        assert len(set(values)) == 3

    def test_class_absent_from_the_batch_and_empty_foreground(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        for label in (torch.where(target == 1, 2, target), torch.zeros_like(target)):
            loss = build(name).double()
            voxels = peer_losses.exclusive(logits, label, loss.peers)
            expected = REFERENCE[name](voxels, small(voxels, loss.keep_rates, 1.0, "batch"))
            assert loss(logits, label).item() == pytest.approx(expected, rel=1e-9)
            multi = build(name, 0.8, sigmoid=True).double()
            voxels = peer_losses.independent(logits, structures(label), loss.peers)
            expected = REFERENCE[name](voxels, small(voxels, multi.keep_rates, 1.0, "batch"))
            assert multi(logits, structures(label)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
class TestChoices:
    def test_keep_rate_1_learns_from_every_voxel(self, name: str) -> None:
        logits, target = batch(name, (5, 7))
        slope = gradient(build(name, 1.0)(logits, target), logits)
        assert bool((slope.abs().sum(1) > 0).all())
        assert torch.equal(build(name, 1.0)(logits, target), build(name, 0.3, ramp_epochs=9)(logits, target))

    def test_keep_rate_0_learns_nothing(self, name: str) -> None:
        logits, target = batch(name, (5, 7))
        value = build(name, 0.0)(logits, target)
        assert value.item() == 0
        assert not gradient(value, logits).any()

    def test_gradient_comes_through_kept_voxels_only(self, name: str) -> None:
        """Of n voxels of a class each network learns int((1 - R) n) less, of fewer under intersection."""
        logits, target = batch(name, (9, 11))
        loss = build(name)
        slope = gradient(loss(logits, target), logits).unflatten(1, (loss.peers, 3)).abs().sum(2)
        for value, rate in enumerate(loss.keep_rates):
            of_class = (target == value).expand_as(slope)
            count = int((target == value).sum())
            left_out = int((1 - rate).item() * count)
            untouched = [int(((slope == 0) & of_class)[:, peer].sum()) for peer in range(loss.peers)]
            if "intersection" in name:
                assert all(left_out <= number <= 2 * left_out for number in untouched)
            else:
                assert untouched == [left_out] * loss.peers

    def test_no_gradient_between_the_classes_means_and_the_choice(self, name: str) -> None:
        """The choice is a constant: the gradient is that of the kept voxels with fixed weights."""
        logits, target = batch(name, (2, 3))
        loss = build(name).double()
        assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)

    def test_rates_set_later_count_at_once_and_are_part_of_the_state(self, name: str) -> None:
        logits, target = batch(name, (5, 7))
        loss = build(name, 1.0)
        loss.keep_rates.copy_(torch.tensor(KEEP))
        assert torch.equal(loss(logits, target), build(name)(logits, target))
        assert list(loss.state_dict()) == ["keep_rates"]
        other = build(name, 1.0)
        other.load_state_dict(copy.deepcopy(loss.state_dict()))
        assert torch.equal(other.keep_rates, torch.tensor(KEEP))
        assert list(loss.parameters()) == []


def test_a_choice_that_depends_on_the_losses_smoothly_is_a_constant_too() -> None:
    """Of the product l l only one factor is learned from: the gradient is l times that of cross entropy."""

    class OwnLossAsWeight(PeerLoss):
        def choices(self, losses: Sequence[Tensor], smallest: Callable[[Tensor], Tensor]) -> list[Tensor]:
            return list(losses)

    logits, target = batch("co_teaching", (5, 7))
    squared = OwnLossAsWeight(3, reduction="sum")(logits, target)
    first = torch.nn.functional.cross_entropy(logits[:, :3], target[:, 0], reduction="none")
    slope = torch.autograd.grad((first.detach() * first).sum(), logits)[0][:, :3]
    torch.testing.assert_close(gradient(squared, logits)[:, :3], slope)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", NAMES)
class TestTargetsAndWeights:
    def test_weight_of_ones_equals_no_weight(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        for flags in ({}, {"sigmoid": True, "keep_rates": 0.7}):
            label = structures(target) if flags else target
            plain = build(name, **flags)(logits, label)
            for ones in (torch.ones(2, 1, *space), torch.ones(2)):
                torch.testing.assert_close(build(name, **flags)(logits, label, ones), plain)

    def test_voxels_of_weight_0_do_not_matter(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        weight = weights(space).round()
        other = torch.where(weight > 0, logits, 1 - 3 * logits)
        value = build(name)(logits, target, weight)
        torch.testing.assert_close(build(name)(other, target, weight), value)
        assert not (gradient(value, logits) * (weight == 0)).any()

    def test_sample_of_weight_0_is_as_if_it_were_not_there(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        without = build(name)(logits[1:], target[1:])
        torch.testing.assert_close(build(name)(logits, target, torch.tensor([0.0, 1.0])), without)

    def test_without_background(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        value = build(name, include_background=False)(logits, target)
        torch.testing.assert_close(value, build(name)(logits, target, (target > 0).double()))
        rates = torch.tensor([[0.1, 0.1], [0.9, 0.5], [0.7, 0.8]])
        loss = build(name, rates.tolist(), sigmoid=True, include_background=False)
        peers = logits.unflatten(1, (loss.peers, 3))[:, :, 1:].flatten(1, 2)
        rest = BUILD[name](2, rates[1:].tolist(), 0, sigmoid=True)
        torch.testing.assert_close(loss(logits, structures(target)), rest(peers, structures(target)[:, 1:]))

    def test_reductions(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        for flags, label, channels in (({}, target, 1), ({"sigmoid": True}, structures(target), 3)):
            settings = {"keep_rates": 0.7, **flags}
            none = build(name, reduction="none", **settings)(logits, label, weights(space))
            assert none.shape == (2, channels, *space)
            total = build(name, reduction="sum", **settings)(logits, label, weights(space))
            torch.testing.assert_close(none.sum(), total)
            assert bool((none == 0).any())
            assert not none[(weights(space) == 0).expand_as(none)].any()

    def test_target_of_any_type_and_meta_tensors(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        value = build(name)(logits, target)
        for same in (target.float(), target.to(torch.uint8), MetaTensor(target.float())):
            assert torch.equal(build(name)(logits, same), value)
        assert type(build(name)(MetaTensor(logits.detach()), target)) is Tensor
        channels = structures(target)
        multi = build(name, 0.8, sigmoid=True)
        for same in (channels.bool(), channels.float(), channels.long()):
            assert torch.equal(multi(logits, same), multi(logits, channels))

    def test_inputs_are_not_changed(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(name, space)
        weight = weights(space)
        given = [tensor.detach().clone() for tensor in (logits, target, weight)]
        build(name)(logits, target, weight).backward()
        assert all(torch.equal(*pair) for pair in zip(given, (logits, target, weight), strict=True))


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("name", NAMES)
class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_extreme_logits_stay_finite(self, name: str, sigmoid: bool, dtype: torch.dtype) -> None:
        channels = 3 * build(name).peers
        generator = torch.Generator().manual_seed(7)
        logits = (200 * torch.randint(-1, 2, (1, channels, 40, 40), generator=generator)).to(dtype).requires_grad_()
        for value in range(3):
            target = torch.full((1, 1, 40, 40), value)
            loss = build(name, 0.9, sigmoid=sigmoid)(logits, structures(target) if sigmoid else target)
            slope = gradient(loss, logits)
            assert loss.dtype == torch.float32
            assert math.isfinite(loss.item())
            assert loss.item() > 0
            assert slope.dtype == dtype
            assert slope.isfinite().all()

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
    def test_half_precision_differs_only_by_the_rounding_of_the_logits(
        self, name: str, sigmoid: bool, dtype: torch.dtype, tolerance: float
    ) -> None:
        logits, target = batch(name, (5, 7), dtype)
        label = structures(target) if sigmoid else target
        exact = logits.detach().float().requires_grad_()
        loss = build(name, 0.8, sigmoid=sigmoid)
        half, full = loss(logits, label), loss(exact, label)
        torch.testing.assert_close(half, full, rtol=1e-6, atol=0)
        torch.testing.assert_close(
            gradient(half, logits).float(), gradient(full, exact), rtol=tolerance, atol=tolerance / 10
        )

    def test_autocast_changes_nothing(self, name: str, sigmoid: bool) -> None:
        logits, target = batch(name, (5, 7), torch.float32)
        label = structures(target) if sigmoid else target
        loss = build(name, 0.8, sigmoid=sigmoid)
        plain = loss(logits, label)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(logits, label), plain)


@pytest.mark.parametrize("name", NAMES)
class TestErrors:
    def test_settings(self, name: str) -> None:
        for settings, message in (
            ({"sigmoid": True, "softmax": True, "keep_rates": 1.0}, "sigmoid and softmax exclude each other"),
            ({"reduction": "median"}, "reduction must be 'mean', 'sum' or 'none', got 'median'"),
            ({"ramp_epochs": -1}, "ramp_epochs must not be negative, got -1"),
            ({"scope": "volume"}, "scope must be 'batch' or 'image', got 'volume'"),
            ({"keep_rates": 1.1}, "shares between 0 and 1"),
            ({"keep_rates": [0.5, 0.5]}, r"form \(3,\); got form \(2,\)"),
        ):
            with pytest.raises(ValueError, match=message):
                build(name, **settings)

    def test_forms(self, name: str) -> None:
        logits, target = batch(name, (5, 7))
        loss = build(name)
        for input, label, message in (
            (logits[:, :-1], target, f"the logits of {loss.peers} networks"),
            (logits[:, : 2 * loss.peers], target, f"{loss.peers} networks of 3 channels each"),
            (logits, structures(target), "class indices, in one channel; got 3 channels"),
            (logits, target[..., :4], r"target \(2, 1, 5, 4\) and input \(2, 3, 5, 7\) differ"),
        ):
            with pytest.raises(ValueError, match=message):
                loss(input, label)
        with pytest.raises(ValueError, match=r"weight must have the form \(2,\) or \(2, 1, 5, 7\)"):
            loss(logits, target, torch.ones(2, 3, 5, 7))
