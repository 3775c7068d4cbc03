"""The bundle pick_and_learn: wiring, batches of one, ranking, interruption, overlapping structures, DDP."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from endoscopy_datasets import riga
from monai.bundle import ConfigWorkflow
from running_bundles import outcome, run_until_interrupted, train_on_two, training_workflow

from monai_noisylabel.data import make_phantom
from monai_noisylabel.networks import QualityAwareNetwork, SelfCleansingNet

pytestmark = pytest.mark.bundle

SHORT: dict[str, Any] = {
    "network_def#channels": [4, 4, 8, 8],
    "quality#channels": [4, 8],
    "quality#warm_up": 1,
    "max_epochs": 4,
    "val_interval": 2,
    "noise": {"model": "mixed", "alpha": 0.5, "beta": 3},
}
SPREAD = {f"label_weight/{name}" for name in ("lowest tenth", "median", "highest tenth")}


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def ranked(folder: Path) -> list[dict[str, str]]:
    with (folder / "eval" / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_both_networks_are_trained_and_one_is_evaluated_and_saved(phantom: Path, tmp_path: Path) -> None:
    workflow = training_workflow("pick_and_learn", tmp_path, phantom, **SHORT, **{"quality#bound": 1.5})
    network, plain = workflow.trainer.network, part(workflow, "network_def")
    assert type(network) is QualityAwareNetwork
    assert network.network is plain
    assert type(plain) is SelfCleansingNet
    optimised = {id(p) for group in part(workflow, "optimizer").param_groups for p in group["params"]}
    assert optimised == {id(p) for p in network.parameters()}
    for evaluator in ("validate#evaluator", "test#evaluator"):
        assert part(workflow, evaluator).network is plain
    loss = workflow.trainer.loss_function
    assert (loss.bound, loss.warm_up, loss.loss) == (1.5, 1, part(workflow, "base_loss"))
    assert part(workflow, "case_weights").loss is loss
    assert [layer.conv.out_channels for layer in network.quality.features] == [4, 8]


@pytest.mark.parametrize(
    ("cases", "batch_size", "message"),
    [
        (5, 1, "needs two at least, got batch_size 1: set a larger one"),
        (3, 8, "the training set has 1: train the base"),
    ],
)
def test_batches_of_one_are_refused_before_training(cases: int, batch_size: int, message: str, tmp_path: Path) -> None:
    phantom = make_phantom(tmp_path / "set", cases=cases, shape=(32, 32, 8), spacing=(10, 10, 20))
    with pytest.raises(RuntimeError, match="require_joint_batch") as refused:
        training_workflow("pick_and_learn", tmp_path, phantom, spatial_dims=3, batch_size=batch_size)
    assert message in str(refused.value.__cause__)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5]), (3, [3, 3]), (8, [6])])
def test_no_batch_of_one_is_left_over(batch_size: int, sizes: list[int], tmp_path: Path) -> None:
    """Six volumes: the sixth beside a batch of five is left out of the epoch; fewer than a batch are one batch."""
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(32, 32, 8), spacing=(10, 10, 20))
    workflow = training_workflow("pick_and_learn", tmp_path, phantom, spatial_dims=3, batch_size=batch_size)
    assert [len(batch["case"]) for batch in part(workflow, "train#dataloader")] == sizes


def test_an_interrupted_run_ends_as_the_uninterrupted_one(phantom: Path, tmp_path: Path) -> None:
    """Interrupted after two of four epochs, of which the first is the warm-up."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training_workflow("pick_and_learn", whole, phantom, **SHORT).run()
    run_until_interrupted(training_workflow("pick_and_learn", parts, phantom, **SHORT), epoch=3)
    workflow = training_workflow("pick_and_learn", parts, phantom, **SHORT)
    workflow.run()
    assert part(workflow, "loss").epoch == 3
    assert outcome(parts, "network") == outcome(whole, "network")
    assert ranked(parts) == ranked(whole)
    weights = [float(row["weight"]) for row in ranked(whole)]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]
    assert {row["case"] for row in ranked(whole)} == {item["case"] for item in part(workflow, "data").train}
    assert set(outcome(whole)["published"]) == SPREAD
    found = json.loads((whole / "eval" / "summary.json").read_text())["training_labels"]["weight_finds_wrong"]
    assert found["wrong_cases"] + found["right_cases"] == len(weights)
    assert 0 <= found["auroc"] <= 1


def test_structures_that_overlap_and_real_labels(tmp_path: Path) -> None:
    data = tmp_path / "riga"
    riga(data)
    settings = {**SHORT, "manifest": "riga", "size": [32, 32], "max_epochs": 1, "batch_size": 2, "noise": "none"}
    workflow = training_workflow("pick_and_learn", tmp_path, data, **settings)
    workflow.run()
    assert workflow.trainer.network.quality.multi_label
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert "weight_finds_wrong" not in summary["training_labels"]
    assert len(ranked(tmp_path)) >= 2


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Six training volumes, one step per epoch: a batch of six, or of three twice.

    Each sample's loss is its own and the normalisation works on each sample alone; only the softmax joins them.
    """
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings: dict[str, Any] = {"spatial_dims": 3, "size": [32, 32, 8], "max_epochs": 3, "noise": "missing"}
    settings |= {"network_def#norm": "instance", "quality#warm_up": 1, "quality#norm": None}
    settings |= {"optimizer#_target_": "torch.optim.SGD", "learning_rate": 0.02}
    one, two = tmp_path / "one", tmp_path / "two"
    channels = {"network_def#channels": [4, 4, 8, 8]}
    training_workflow("pick_and_learn", one, phantom, **settings, **channels, batch_size=6).run()
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    train_on_two("pick_and_learn", two, phantom, *flags, "--batch_size", "3")
    weights = [{row["case"]: float(row["weight"]) for row in ranked(folder)} for folder in (one, two)]
    assert weights[0] == pytest.approx(weights[1], abs=2e-4)
    states = [torch.load(folder / "models" / "training_state.pt", weights_only=True) for folder in (one, two)]
    networks = [
        {name.removeprefix("module."): value for name, value in state["objects"]["network"].items()} for state in states
    ]
    assert networks[0].keys() == networks[1].keys()
    for name, value in networks[0].items():
        torch.testing.assert_close(networks[1][name], value, rtol=1e-4, atol=1e-6, msg=name)
