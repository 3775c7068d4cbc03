"""A training step of two or three networks against the baseline's, and selection against the loss it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from measuring import Step, peak_bytes, seconds
from monai.losses import DiceFocalLoss
from torch import Tensor, nn

from monai_noisylabel.losses import CoTeachingLoss, CrossEntropyLoss, JoCoRLoss, TriNetworkLoss
from monai_noisylabel.losses.peer_loss import PeerLoss
from monai_noisylabel.networks import PeerNetworks, SelfCleansingNet
from monai_noisylabel.selection import small_loss_weight

pytestmark = pytest.mark.benchmark

CLASSES = 3
BATCHES = [(8, 1, 128, 128), (2, 1, 40, 56, 40)]
"""The bundles' network as it is in 2D, and with half the width on volumes of the hippocampus."""
LOSSES = {"co_teaching": CoTeachingLoss, "jocor": JoCoRLoss, "tri_network": TriNetworkLoss}
RATIO_PER_NETWORK = 1.05
"""Limit of time and memory: 2.1 for two networks."""
SELECTION_SHAPES = [(8, 3, 128, 128), (2, 4, 96, 96, 96)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(shape: tuple[int, ...]) -> nn.Module:
    widths = (16, 32, 64, 128) if len(shape) == 4 else (8, 16, 32, 64)
    return SelfCleansingNet(len(shape) - 2, 1, CLASSES, channels=widths)


def training_step(network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> Step:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    label = torch.randint(0, CLASSES, shape, generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(image), label).backward()
        optimizer.step()

    return run


@pytest.mark.parametrize("shape", BATCHES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_against_the_baselines(name: str, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    loss: PeerLoss = LOSSES[name](CLASSES, keep_rates=0.7)
    loss.epoch = 10
    peers = PeerNetworks([network(shape) for _ in range(loss.peers)])
    base_loss = DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, gamma=0.0, lambda_focal=float(CLASSES))
    ours, theirs = training_step(peers, loss, shape), training_step(network(shape), base_loss, shape)
    our_peak, their_peak = peak_bytes(ours), peak_bytes(theirs)
    our_time, their_time = seconds(ours, theirs, runs=8)
    with capsys.disabled():
        print(
            f"\n{name} {shape} / baseline: time {1e3 * our_time:.0f} / {1e3 * their_time:.0f} ms = "
            f"{our_time / their_time:.2f}, memory {our_peak / 2**20:.0f} / {their_peak / 2**20:.0f} MiB = "
            f"{our_peak / their_peak:.2f}"
        )
    assert our_time / their_time <= RATIO_PER_NETWORK * loss.peers
    assert our_peak / their_peak <= RATIO_PER_NETWORK * loss.peers


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
