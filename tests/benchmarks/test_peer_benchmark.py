"""A training step of two or three networks against the baseline's, and selection against the loss it serves."""

from __future__ import annotations

import pytest
import torch
from measuring import compare, peak_bytes, seconds
from training_steps import BATCHES, CLASSES, backbone, baseline_step, training_step

from monai_noisylabel.losses import CoTeachingLoss, CrossEntropyLoss, JoCoRLoss, TriNetworkLoss
from monai_noisylabel.losses.peer_loss import PeerLoss
from monai_noisylabel.networks import PeerNetworks
from monai_noisylabel.selection import small_loss_weight

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]

LOSSES = {"co_teaching": CoTeachingLoss, "jocor": JoCoRLoss, "tri_network": TriNetworkLoss}
RATIO_PER_NETWORK = 1.05
"""Limit of time and memory: 2.1 for two networks."""
SELECTION_SHAPES = [(8, 3, 128, 128), (2, 4, 96, 96, 96)]


@pytest.mark.parametrize("shape", BATCHES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_against_the_baselines(name: str, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    loss: PeerLoss = LOSSES[name](CLASSES, keep_rates=0.7)
    loss.epoch = 10
    peers = PeerNetworks([backbone(shape) for _ in range(loss.peers)])
    step = training_step(peers, loss, shape)
    time, memory = compare(f"{name} {shape} / baseline", step, baseline_step(shape), capsys, runs=8)
    assert time <= RATIO_PER_NETWORK * loss.peers
    assert memory <= RATIO_PER_NETWORK * loss.peers


@pytest.mark.parametrize("shape", SELECTION_SHAPES, ids=str)
def test_selection_against_cross_entropy(shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The choice of one network's voxels against its cross entropy with the gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator, requires_grad=True)
    label = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), generator=generator)
    values = CrossEntropyLoss(reduction="none")(logits, label).detach()
    rates = torch.full(shape[1:2], 0.3)

    def select() -> None:
        small_loss_weight(values, label, rates)

    def learn() -> None:
        torch.autograd.grad(CrossEntropyLoss()(logits, label), logits)

    select_time, learn_time = seconds(select, learn, runs=10)
    select_peak, value_bytes = peak_bytes(select), values.nbytes
    with capsys.disabled():
        print(
            f"\nselection {shape} / cross entropy: {1e3 * select_time:.1f} / {1e3 * learn_time:.1f} ms = "
            f"{select_time / learn_time:.2f}, memory {select_peak / value_bytes:.1f} times the losses"
        )
    assert select_peak <= 8 * value_bytes
