"""A training step of pick-and-learn against the baseline's."""

from __future__ import annotations

import pytest
import torch
from measuring import Step, compare
from monai.losses import DiceFocalLoss
from training_steps import BATCHES, CLASSES, backbone, baseline_step

from monai_noisylabel.losses import PickAndLearnLoss
from monai_noisylabel.networks import QualityAwareNetwork, QualityNetwork

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]

LIMIT = 1.25
"""Of time and memory: a small network beside the large one, and a loss sample by sample."""


def picking_step(shape: tuple[int, ...]) -> Step:
    """The step that the bundle ``pick_and_learn`` takes after its warm-up."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    label = torch.randint(0, CLASSES, shape, generator=generator)
    network = QualityAwareNetwork(backbone(shape), QualityNetwork(len(shape) - 2, 1, CLASSES))
    loss = PickAndLearnLoss(
        DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, gamma=0.0, lambda_focal=float(CLASSES))
    )
    updates = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        updates.zero_grad(set_to_none=True)
        loss(network(image, label=label), label).backward()
        updates.step()

    return run


@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_a_step_against_the_baselines(shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    name = f"pick_and_learn, step {shape} / baseline"
    time, memory = compare(name, picking_step(shape), baseline_step(shape), capsys, runs=8)
    assert time <= LIMIT
    assert memory <= LIMIT
