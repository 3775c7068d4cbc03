"""The moving average of a network's weights against its closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_noisylabel.networks import averaged_network


def _follow(weights: list[float], steps: int) -> float:
    network = nn.Linear(1, 1, bias=False)
    average = averaged_network(network, steps)
    for weight in weights:
        network.weight.data.fill_(weight)
        average.update_parameters(network)
    return average.module.weight.item()


def test_the_first_steps_count_alike_whatever_the_weights_at_the_start() -> None:
    # the mean of 3, 5 and 10
    assert _follow([3.0, 5.0, 10.0], steps=4) == pytest.approx(6.0)


def test_later_steps_are_an_exponential_average() -> None:
    # means of the first two: 1, 2; then 2 + (8 - 2) / 2 = 5 and 5 + (1 - 5) / 2 = 3
    assert _follow([1.0, 3.0, 8.0, 1.0], steps=2) == pytest.approx(3.0)


def test_one_step_is_the_network_itself() -> None:
    assert _follow([1.0, 3.0, 8.0], steps=1) == 8.0


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm1d(1)
    average = averaged_network(network, steps=10)
    for mean in (2.0, 6.0):
        network.running_mean.fill_(mean)  # type: ignore[union-attr, operator]
        network.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
        average.update_parameters(network)
    assert float(average.module.running_mean) == 4.0
    assert int(average.module.num_batches_tracked) == 2
    network.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
    assert int(average.module.num_batches_tracked) == 2, "the copy must not share memory"


def test_it_resumes_from_its_state() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    whole, part = averaged_network(network, 3), averaged_network(network, 3)
    for step in range(6):
        if step == 4:
            resumed = averaged_network(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 3)
            resumed.load_state_dict(copy.deepcopy(part.state_dict()))
            part = resumed
        for parameter in network.parameters():
            parameter.data.normal_()
        network(torch.randn(2, 1, 4, 4))
        whole.update_parameters(network)
        part.update_parameters(network)
    for expected, found in zip(whole.module.state_dict().values(), part.module.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_it_predicts_in_evaluation_mode() -> None:
    network = nn.Dropout(0.5).train()
    assert not averaged_network(network).module.training
    assert network.training


def test_an_average_of_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        averaged_network(nn.Linear(1, 1), steps=0)
