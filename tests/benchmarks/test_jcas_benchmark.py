"""Reasoning in linear time and the affinity loss by blocks against the dense forms, and a step against the baseline's.

Times are processor times of one thread, the least of several runs that alternate with the other side's. Memory is the
peak of what the allocator handed out, beyond the inputs, gradients included.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from measuring import Step, compare, peak_bytes, seconds
from reference.affinity_pairs import dense_reasoning
from torch import Tensor, nn
from training_steps import BATCHES, CLASSES, backbone, baseline_step, training_step

from monai_noisylabel.losses import JCASLoss, affinity_loss, sampled_rows
from monai_noisylabel.networks import AffinityNetwork, affinity_reasoning

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]

CELLS = 4096


def unit(shape: tuple[int, ...], dim: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu()
    return nn.functional.normalize(values, dim=dim).requires_grad_()


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "with gradients"])
def test_reasoning_against_the_dense_form(backward: bool, capsys: pytest.CaptureFixture[str]) -> None:
    features = unit((1, 256, CELLS), 1)
    values = torch.randn(1, 4, CELLS, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def step(refine: Callable[[Tensor, Tensor], Tensor]) -> Step:
        def run() -> None:
            with torch.set_grad_enabled(backward):
                refined = refine(values, features)
            if backward:
                torch.autograd.grad(refined.square().mean(), [values, features])

        return run

    ours, theirs = step(affinity_reasoning), step(lambda p, x: dense_reasoning(p, x.mT))
    time, memory = compare(f"reasoning, N {CELLS}, d 256, C 4, backward {backward}", ours, theirs, capsys, runs=5)
    assert time * 10 <= 1
    assert memory * 20 <= 1


def test_volumes_of_32_cubed_cells_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The dense form would hold matrices of 4 GiB each."""
    features, cells = unit((1, 64, 32**3), 1), 32**3
    values = torch.randn(1, 4, cells, generator=torch.Generator().manual_seed(1))
    rows = sampled_rows(cells, 2**24, torch.Generator().manual_seed(0))
    label = torch.randint(0, 4, (1, cells), generator=torch.Generator().manual_seed(2))

    def reason() -> None:
        torch.autograd.grad(affinity_reasoning(values, features).square().mean(), features)

    def learn() -> None:
        torch.autograd.grad(affinity_loss(features.mT.contiguous(), label, rows=rows), features)

    reason_time, learn_time = seconds(reason, learn, runs=2)
    with capsys.disabled():
        print(
            f"\n32^3 cells, d 64: reasoning {1e3 * reason_time:.0f} ms, {peak_bytes(reason) / 2**20:.0f} MiB; loss of "
            f"2^24 pairs {1e3 * learn_time:.0f} ms, {peak_bytes(learn) / 2**20:.0f} MiB"
        )
    assert peak_bytes(learn) <= 64 * features.nbytes


def test_affinity_loss_against_the_dense_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Dense as one would write it: binary cross entropy of a matrix of corrected affinities."""
    features = unit((1, CELLS, 64), 2)
    label = torch.randint(0, 4, (1, CELLS), generator=torch.Generator().manual_seed(1))
    noise = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]], requires_grad=True)

    def dense() -> Tensor:
        affinity = features @ features.mT
        chance = noise[:, :1, 1:] * (1 - affinity) + noise[:, 1:, 1:] * affinity
        same = (label[:, :, None] == label[:, None, :]).float()
        return nn.functional.binary_cross_entropy(chance.clamp(1e-6, 1 - 1e-6), same)

    torch.testing.assert_close(affinity_loss(features, label, noise), dense())
    time, memory = compare(
        f"affinity loss, N {CELLS}, d 64",
        lambda: torch.autograd.grad(affinity_loss(features, label, noise), [features, noise]),
        lambda: torch.autograd.grad(dense(), [features, noise]),
        capsys,
        runs=4,
    )
    assert time <= 1.5
    assert memory * 8 <= 1


@pytest.mark.parametrize("shape", BATCHES, ids=["slices 128x128", "volumes 40x56x40"])
def test_a_step_against_the_baselines(shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Stage 2, which costs more than stage 1."""
    net = backbone(shape)
    layers = net.feature_layer, net.shallow_feature_layer
    network = AffinityNetwork(net, *layers, spatial_dims=len(shape) - 2, in_channels=1, out_channels=CLASSES)
    loss = JCASLoss(CLASSES, warm_up=0)
    groups = [{"params": network.parameters()}, loss.matrices.parameter_group()]
    ours = training_step(network, loss, shape, torch.optim.Adam(groups, lr=1e-3))
    time, _ = compare(f"step {shape}", ours, baseline_step(shape), capsys, runs=3)
    assert time <= 1.6
