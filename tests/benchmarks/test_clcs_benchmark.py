"""A training step of CLCS against the baseline's, and its inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from measuring import Step, peak_bytes, seconds
from monai.losses import DiceFocalLoss
from torch import Tensor, nn

from monai_noisylabel.losses import CLCSLoss
from monai_noisylabel.networks import CollaborativeNetwork, SelfCleansingNet

pytestmark = pytest.mark.benchmark

CLASSES = 3
BATCHES = [(8, 1, 128, 128), (2, 1, 40, 56, 40)]
"""The bundle's network as it is in 2D, and with half the width on volumes of the hippocampus."""
LIMIT = 2.2
"""Of time and memory: two networks, the block at the bottleneck, two rows of thresholds and a vote."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(shape: tuple[int, ...]) -> nn.Module:
    widths = (16, 32, 64, 128) if len(shape) == 4 else (8, 16, 32, 64)
    return SelfCleansingNet(len(shape) - 2, 1, CLASSES, channels=widths)


def both(shape: tuple[int, ...]) -> CollaborativeNetwork:
    return CollaborativeNetwork(network(shape), network(shape))


def training_step(network: nn.Module, loss: Callable[..., Tensor], shape: tuple[int, ...]) -> Step:
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
def test_a_step_against_the_baselines(shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    loss = CLCSLoss(CLASSES)
    loss.warming_up.fill_(False)
    base_loss = DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, gamma=0.0, lambda_focal=float(CLASSES))
    ours, theirs = training_step(both(shape), loss, shape), training_step(network(shape), base_loss, shape)
    report(f"clcs, step {shape}", ours, theirs, capsys)


def test_inference_against_the_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    shape = BATCHES[0]
    networks = [both(shape).eval(), network(shape).eval()]

    def run(network: nn.Module) -> Step:
        return torch.no_grad()(lambda: network(torch.zeros(shape)))

    report(f"clcs, inference {shape}", run(networks[0]), run(networks[1]), capsys)


def report(name: str, ours: Step, theirs: Step, capsys: pytest.CaptureFixture[str]) -> None:
    our_peak, their_peak = peak_bytes(ours), peak_bytes(theirs)
    our_time, their_time = seconds(ours, theirs, runs=8)
    with capsys.disabled():
        print(
            f"\n{name} / baseline: time {1e3 * our_time:.0f} / {1e3 * their_time:.0f} ms = "
            f"{our_time / their_time:.2f}, memory {our_peak / 2**20:.0f} / {their_peak / 2**20:.0f} MiB = "
            f"{our_peak / their_peak:.2f}"
        )
    assert our_time / their_time <= LIMIT
    assert our_peak / their_peak <= LIMIT
