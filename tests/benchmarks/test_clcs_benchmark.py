"""A training step of CLCS against the baseline's, and its inference."""

from __future__ import annotations

import pytest
import torch
from measuring import Step, compare
from torch import nn
from training_steps import BATCHES, CLASSES, backbone, baseline_step, training_step

from monai_noisylabel.losses import CLCSLoss
from monai_noisylabel.networks import CollaborativeNetwork

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]

LIMIT = 2.2
"""Of time and memory: two networks, the block at the bottleneck, two rows of thresholds and a vote."""


def both(shape: tuple[int, ...]) -> CollaborativeNetwork:
    return CollaborativeNetwork(backbone(shape), backbone(shape))


@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_a_step_against_the_baselines(shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    loss = CLCSLoss(CLASSES)
    loss.warming_up.fill_(False)
    within_limit(f"clcs, step {shape}", training_step(both(shape), loss, shape), baseline_step(shape), capsys)


def test_inference_against_the_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    shape = BATCHES[0]
    networks = [both(shape).eval(), backbone(shape).eval()]

    def run(network: nn.Module) -> Step:
        return torch.no_grad()(lambda: network(torch.zeros(shape)))

    within_limit(f"clcs, inference {shape}", run(networks[0]), run(networks[1]), capsys)


def within_limit(name: str, ours: Step, theirs: Step, capsys: pytest.CaptureFixture[str]) -> None:
    time, memory = compare(f"{name} / baseline", ours, theirs, capsys, runs=8)
    assert time <= LIMIT
    assert memory <= LIMIT
