"""What every loss of the package promises, checked on every loss found in it.

A new loss is found by itself; one that cannot be built without arguments needs a line in ``EXAMPLES``.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from monai_noisylabel import losses
from monai_noisylabel.losses.probabilities import Probabilities
from monai_noisylabel.losses.voxelwise import VoxelwiseLoss

APART = {"CLCSLoss", "CoTeachingLoss", "JCASLoss", "JoCoRLoss", "PeerLoss", "SelfCleansingLoss", "SuperpixelLoss"}
APART |= {"PickAndLearnLoss", "SpatialLabelSmoothingLoss", "TriNetworkLoss", "VoxelwiseLoss"}
"""Of several networks (test_clcs.py, test_peer_loss.py, test_superpixel.py); of two labels in one target; of features
(test_jcas.py); bases."""
TRANSITION = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9]]
EXAMPLES: dict[str, Callable[..., nn.Module]] = {
    "ActivePassiveLoss": lambda **flags: losses.ActivePassiveLoss(
        losses.NormalizedGeneralizedCrossEntropyLoss(**flags), losses.SymmetricCrossEntropyLoss(**flags), 2.0, 0.5
    ),
    "BackwardCorrectedLoss": lambda **flags: losses.BackwardCorrectedLoss(
        TRANSITION if not flags.get("sigmoid") else [[0.9, 0.1], [0.3, 0.7]], losses.CrossEntropyLoss(**flags)
    ),
    "ForwardCorrectedLoss": lambda **flags: losses.ForwardCorrectedLoss(
        TRANSITION if not flags.get("sigmoid") else [[0.9, 0.1], [0.3, 0.7]],
        losses.GeneralizedCrossEntropyLoss(**flags),
    ),
}
ADAPTERS = {"WeightedLoss"}


def found() -> Iterator[type[nn.Module]]:
    for module in pkgutil.iter_modules(losses.__path__, losses.__name__ + "."):
        for name, member in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(member) and issubclass(member, _Loss) and member.__module__ == module.name
            if own and not name.startswith("_") and name not in APART | ADAPTERS:
                yield member


NAMES = sorted(member.__name__ for member in found())
SPACES = [(5, 7), (3, 4, 5)]


def build(name: str, **flags: Any) -> nn.Module:
    return EXAMPLES.get(name, getattr(losses, name))(**flags)


def batch(space: tuple[int, ...], dtype: torch.dtype = torch.float32, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(0, 3, (2, 1, *space), generator=generator)


def one_hot(target: Tensor) -> Tensor:
    return torch.cat([target == c for c in range(3)], 1).float()


def weights(space: tuple[int, ...]) -> Tensor:
    return torch.rand(2, 1, *space, generator=torch.Generator().manual_seed(4))


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits)[0]


def test_every_loss_is_exported() -> None:
    assert set(NAMES) | ADAPTERS | APART - {"PeerLoss", "VoxelwiseLoss"} == {
        n for n in losses.__all__ if n.endswith("Loss")
    }


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", NAMES)
class TestTargetsAndWeights:
    def test_weight_of_ones_equals_no_weight(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        loss = build(name)
        plain = loss(logits, target)
        for ones in (torch.ones(2, 1, *space), torch.ones(2)):
            weighted = loss(logits, target, ones)
            torch.testing.assert_close(weighted, plain)
            torch.testing.assert_close(gradient(weighted, logits), gradient(loss(logits, target), logits))

    def test_weight_0_gives_no_gradient_and_elsewhere_some(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        weight = torch.ones(2, 1, *space)
        weight[0, :, 1:] = 0
        slope = gradient(build(name)(logits, target, weight), logits)
        assert not slope[0, :, 1:].any()
        assert slope[0, :, 0].abs().sum() > 0
        assert slope[1].abs().sum() > 0

    def test_voxels_of_weight_0_do_not_matter(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        weight = weights(space).round()
        other = torch.where(weight > 0, logits, -3 * logits + 1)
        torch.testing.assert_close(build(name)(other, target, weight), build(name)(logits, target, weight))

    def test_all_weights_0_give_0_and_no_gradient(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        value = build(name)(logits, target, torch.zeros(2))
        assert value.item() == 0
        assert not gradient(value, logits).any()

    def test_sample_of_weight_0_is_left_out_of_the_mean(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        loss = build(name)
        torch.testing.assert_close(
            loss(logits, target, torch.tensor([0.0, 1.0])), loss(logits[1:], target[1:]), rtol=1e-5, atol=1e-6
        )

    def test_indices_equal_one_hot(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        for flags in ({}, {"include_background": False}):
            loss, weight = build(name, **flags), weights(space)
            by_index, by_channel = loss(logits, target, weight), loss(logits, one_hot(target), weight)
            torch.testing.assert_close(by_index, by_channel)
            torch.testing.assert_close(gradient(by_index, logits), gradient(by_channel, logits), rtol=1e-4, atol=1e-6)

    def test_sigmoid_takes_indices_and_channels_alike(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        for flags in ({}, {"include_background": False}):
            loss = build(name, sigmoid=True, **flags)
            value = loss(logits, one_hot(target), weights(space))
            for same in (target, one_hot(target).bool(), one_hot(target).long()):
                torch.testing.assert_close(loss(logits, same, weights(space)), value)

    def test_target_of_any_type_and_meta_tensors(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        value = build(name)(logits, target)
        for same in (target.float(), target.to(torch.uint8), MetaTensor(target.float())):
            assert torch.equal(build(name)(logits, same), value)
        assert type(build(name)(MetaTensor(logits.detach()), target)) is Tensor

    def test_weight_of_any_type(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        weight, loss = weights(space).round(), build(name)
        value = loss(logits, target, weight)
        for dtype in (torch.bool, torch.int64, torch.float16, torch.float64):
            same = loss(logits, target, weight.to(dtype))
            torch.testing.assert_close(same, value, check_dtype=False)
            torch.testing.assert_close(gradient(same, logits), gradient(loss(logits, target, weight), logits))

    def test_inputs_are_not_changed(self, name: str, space: tuple[int, ...]) -> None:
        logits, target = batch(space)
        weight = weights(space)
        given = [tensor.detach().clone() for tensor in (logits, target, weight)]
        build(name)(logits, target, weight).backward()
        assert all(torch.equal(*pair) for pair in zip(given, (logits, target, weight), strict=True))


@pytest.mark.parametrize("name", NAMES)
class TestReductions:
    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_none_has_the_form_of_the_docstring_and_sums_to_sum(self, name: str, sigmoid: bool) -> None:
        logits, target = batch((5, 7))
        none = build(name, sigmoid=sigmoid, reduction="none")(logits, target, weights((5, 7)))
        voxelwise = isinstance(build(name), VoxelwiseLoss)
        channels = 3 if sigmoid or not (voxelwise or name == "TLoss") else 1
        assert none.shape == ((2, channels, 5, 7) if voxelwise else (2, channels, 1, 1))
        total = build(name, sigmoid=sigmoid, reduction="sum")(logits, target, weights((5, 7)))
        torch.testing.assert_close(none.sum(), total)

    def test_mean_without_weights_is_the_mean_of_none(self, name: str) -> None:
        logits, target = batch((3, 4, 5))
        none = build(name, reduction="none")(logits, target)
        torch.testing.assert_close(build(name)(logits, target), none.mean())

    def test_channels_without_background(self, name: str) -> None:
        logits, target = batch((5, 7))
        kept = build(name, sigmoid=True, include_background=False)(logits, one_hot(target))
        rest = build(name, sigmoid=True)(logits[:, 1:], one_hot(target)[:, 1:])
        torch.testing.assert_close(kept, rest)


@pytest.mark.parametrize("name", NAMES)
class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_extreme_logits_stay_finite(self, name: str, sigmoid: bool, dtype: torch.dtype) -> None:
        extremes = torch.tensor([-200.0, 0.0, 200.0], dtype=dtype)
        logits = torch.cartesian_prod(extremes, extremes, extremes).T.reshape(1, 3, 3, 9).requires_grad_()
        for label in range(3):
            target = torch.full((1, 1, 3, 9), label)
            value = build(name, sigmoid=sigmoid)(logits, target)
            slope = gradient(value, logits)
            assert value.dtype == torch.float32
            assert math.isfinite(value.item())
            assert slope.dtype == dtype
            assert slope.isfinite().all()

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
    def test_half_precision_differs_only_by_the_rounding_of_the_logits(
        self, name: str, dtype: torch.dtype, tolerance: float
    ) -> None:
        logits, target = batch((5, 7), dtype)
        exact = logits.detach().float().requires_grad_()
        for flags in ({}, {"sigmoid": True}):
            loss = build(name, **flags)
            half, full = loss(logits, target), loss(exact, target)
            torch.testing.assert_close(half, full, rtol=1e-6, atol=0)
            torch.testing.assert_close(
                gradient(half, logits).float(), gradient(full, exact), rtol=tolerance, atol=tolerance / 10
            )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_autocast_changes_nothing(self, name: str, dtype: torch.dtype) -> None:
        logits, target = batch((5, 7), dtype)
        for label in (target, 0.8 * one_hot(target) + 0.1):
            plain = build(name)(logits, label, weights((5, 7)))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = build(name)(logits, label, weights((5, 7)))
            assert value.dtype == torch.float32
            assert torch.equal(value, plain)
            slope = gradient(value, logits)
            assert slope.dtype == dtype
            assert slope.isfinite().all()
            assert torch.equal(slope, gradient(plain, logits))

    def test_factors_of_the_loss_are_not_rounded_to_half_precision(self, name: str) -> None:
        # 1/3 in bfloat16 is 0.2 % off
        logits, target = batch((40, 50), torch.bfloat16)
        exact = logits.detach().float().requires_grad_()
        (half,) = torch.autograd.grad(build(name, reduction="sum")(logits, target) / 3, logits)
        (full,) = torch.autograd.grad(build(name, reduction="sum")(exact, target) / 3, exact)
        assert (half.float().abs().sum() / full.abs().sum()).item() == pytest.approx(1, abs=5e-4)

    @pytest.mark.parametrize("flags", [{}, {"sigmoid": True}, {"include_background": False}], ids=str)
    def test_first_and_second_derivatives(self, name: str, flags: dict[str, bool]) -> None:
        logits, target = batch((2, 2), torch.float64, scale=0.7)
        weight = weights((2, 2)).double()
        loss = build(name, **flags).double()
        for label in (target, one_hot(target).double()):
            assert torch.autograd.gradcheck(lambda z, y=label: loss(z, y, weight), logits)
            assert torch.autograd.gradgradcheck(lambda z, y=label: loss(z, y, weight), logits)

    def test_weights_and_soft_labels_are_differentiable(self, name: str) -> None:
        logits, target = batch((2, 2), torch.float64)
        soft = (0.8 * one_hot(target) + 0.1).double().requires_grad_()
        weight = weights((2, 2)).double().requires_grad_()
        loss = build(name).double()
        assert torch.autograd.gradcheck(loss, (logits, soft))
        assert torch.autograd.gradcheck(loss, (logits, soft, weight))
        assert torch.autograd.gradcheck(lambda z, w: loss(z, target, w), (logits, weight))

    def test_gradient_can_be_taken_twice(self, name: str) -> None:
        logits, target = batch((5, 7))
        value = build(name)(logits, target)
        first = torch.autograd.grad(value, logits, retain_graph=True)[0]
        kept = first.clone()
        assert torch.equal(torch.autograd.grad(2 * value, logits)[0], 2 * kept)
        assert torch.equal(first, kept)

    def test_no_block_outlives_its_turn(self, name: str) -> None:
        # a cycle of references would keep all blocks until the garbage collector comes by
        logits, target = batch((5, 7))
        gc.collect()
        gc.disable()
        try:
            gradient(build(name)(logits, target), logits)
            assert not [one for one in gc.get_objects() if isinstance(one, Probabilities)]
        finally:
            gc.enable()

    def test_blocks_do_not_show(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, target = batch((5, 7))
        whole = build(name)(logits, target, weights((5, 7)))
        monkeypatch.setattr("monai_noisylabel.losses.blocks.BLOCK_ON_CPU", 12)
        parts = build(name)(logits, target, weights((5, 7)))
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(gradient(parts, logits), gradient(whole, logits))


@pytest.mark.parametrize("name", NAMES)
class TestErrors:
    def test_flags(self, name: str) -> None:
        with pytest.raises(ValueError, match="sigmoid and softmax exclude each other"):
            build(name, sigmoid=True, softmax=True)
        with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'median'"):
            build(name, reduction="median")

    def test_shapes(self, name: str) -> None:
        logits, target = batch((5, 7))
        cases = [
            (logits, target[:, :, :4], r"target \(2, 1, 4, 7\) and input \(2, 3, 5, 7\) differ"),
            (logits, target[:1], r"target \(1, 1, 5, 7\) and input \(2, 3, 5, 7\) differ"),
            (logits, target[:, 0], r"target \(2, 5, 7\) and input \(2, 3, 5, 7\) differ"),
            (logits, target.expand(2, 2, 5, 7), "one channel of class indices or the input's 3 channels, got 2"),
            (logits[:, :, 0, 0], target[:, :, 0, 0], r"at least one axis of space, got \(2, 3\)"),
            (logits[:, :1], target, "One channel under softmax is always certain"),
        ]
        for input, label, message in cases:
            with pytest.raises(ValueError, match=message):
                build(name)(input, label)
        with pytest.raises(ValueError, match="Nothing is left of one channel without the background"):
            build(name, sigmoid=True, include_background=False)(logits[:, :1], target)
        with pytest.raises(ValueError, match="to_onehot_y=True needs one channel of class indices, got 3"):
            build(name, to_onehot_y=True)(logits, one_hot(target))

    @pytest.mark.parametrize(("index", "sigmoid"), [(3, False), (-1, False), (255, True)])
    def test_indices_of_no_class(self, name: str, index: int, sigmoid: bool) -> None:
        logits, target = batch((5, 7))
        target[1, 0, 2, 3] = index
        with pytest.raises(ValueError, match=f"target holds {index}: class indices must be from 0 to 2"):
            build(name, sigmoid=sigmoid)(logits, target)

    def test_channels_that_are_not_binary(self, name: str) -> None:
        logits, target = batch((5, 7))
        with pytest.raises(ValueError, match="target holds 2: class indices must be from 0 to 1"):
            build(name, sigmoid=True)(logits, target.expand_as(logits))

    @pytest.mark.parametrize("form", [(2, 3, 5, 7), (3,), (2, 1), (2, 1, 5, 6)], ids=str)
    def test_weight(self, name: str, form: tuple[int, ...]) -> None:
        logits, target = batch((5, 7))
        with pytest.raises(ValueError, match=r"form \(2,\) or \(2, 1, 5, 7\), got \("):
            build(name)(logits, target, torch.ones(form))


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_graph_break(name: str, backend: str) -> None:
    logits, target = batch((5, 7))
    weight, loss = weights((5, 7)), build(name)
    torch._dynamo.reset()  # every class recompiles the shared forward, which has a limit
    compiled_loss = torch.compile(loss, fullgraph=True, backend=backend)
    for label in (target, 0.8 * one_hot(target) + 0.1):
        eager, compiled = loss(logits, label, weight), compiled_loss(logits, label, weight)
        torch.testing.assert_close(compiled, eager)
        torch.testing.assert_close(gradient(compiled, logits), gradient(eager, logits), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GeneralizedCrossEntropyLoss", "TLoss"])
def test_compiled_code_is_not_cut_into_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = batch((5, 7))
    monkeypatch.setattr("monai_noisylabel.losses.blocks.BLOCK_ON_CPU", 12)
    graphs: list[torch.fx.GraphModule] = []

    def record(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(build(name), fullgraph=True, backend=record)(logits, target)
    assert graphs[0].code.count("softmax(") == 1
