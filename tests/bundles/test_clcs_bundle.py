"""The bundle clcs: network and loss, what it publishes, interruption, other networks, overlapping structures, DDP."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from endoscopy_datasets import endovis18, riga
from monai.bundle import ConfigWorkflow
from PIL import Image
from running_bundles import outcome, run_until_interrupted, train_on_two, training_workflow

from monai_noisylabel.data import make_phantom
from monai_noisylabel.networks import CollaborativeNetwork, SelfCleansingNet

pytestmark = pytest.mark.bundle

SHORT: dict[str, Any] = {
    "network_def#channels": [4, 4, 8, 8],
    "max_epochs": 4,
    "val_interval": 2,
    "learning_rate": 0.01,
    "noise": {"model": "mixed", "alpha": 0.5, "beta": 3},
}
CLASSES = ("background", "liver", "tumour")


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def selecting(folder: Path, phantom: Path) -> ConfigWorkflow:
    """A training that selects from the beginning: in runs this short the warm-up would not end."""
    workflow = training_workflow("clcs", folder, phantom, **SHORT)
    part(workflow, "loss").warming_up.fill_(False)
    return workflow


def test_two_branches_are_trained_evaluated_and_saved(phantom: Path, tmp_path: Path) -> None:
    workflow = training_workflow("clcs", tmp_path, phantom, **SHORT)
    network = workflow.trainer.network
    assert type(network) is CollaborativeNetwork
    assert network.bottleneck == "residual_block_3"
    assert [type(branch) for branch in (network.first, network.second)] == [SelfCleansingNet] * 2
    assert next(network.first.parameters()).shape[0] == 4  # of SHORT
    optimised = {id(p) for group in part(workflow, "optimizer").param_groups for p in group["params"]}
    assert optimised == {id(p) for p in network.parameters()}
    for evaluator in ("validate#evaluator", "test#evaluator"):
        assert part(workflow, evaluator).network is network


def test_settings_reach_the_loss_and_the_schedule(phantom: Path, tmp_path: Path) -> None:
    settings = {"status": "count", "tau": 0.9, "momentum": 0.5, "noise_weight": 0.0, "noise_mix": "label"}
    settings |= {"reverse_weight": 0.3, "discrepancy_weight": 0.0}
    overrides = {f"clcs#{name}": value for name, value in settings.items()}
    workflow = training_workflow("clcs", tmp_path, phantom, **SHORT, **overrides, **{"clcs#warm_up": 0.5})
    loss = part(workflow, "loss")
    assert {name: getattr(loss, name) for name in settings} == settings
    handlers = part(workflow, "train#handlers")
    schedule = next(handler for handler in handlers if type(handler).__name__ == "ClassCurriculum")
    assert schedule.loss is loss is workflow.trainer.loss_function
    assert schedule.warm_up == 0.5


def test_an_interrupted_run_ends_as_the_uninterrupted_one(phantom: Path, tmp_path: Path) -> None:
    """Interrupted after two epochs; that it selects, and by which counts, the third one learns from the checkpoint."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    selecting(whole, phantom).run()
    run_until_interrupted(selecting(parts, phantom), epoch=3)
    training_workflow("clcs", parts, phantom, **SHORT).run()
    assert outcome(parts, "loss") == outcome(whole, "loss")
    rows = list(csv.DictReader((whole / "eval" / "metrics.csv").open()))
    thresholds = [[float(row[f"threshold_{k}/{name}"]) for k in (1, 2) for name in CLASSES] for row in rows]
    assert len({tuple(values) for values in thresholds}) > 1
    fractions = [[float(row[f"clean_fraction/{name}"]) for name in CLASSES] for row in rows]
    assert all(0 < values[0] < 1 for values in fractions)
    published = outcome(whole)["published"]
    assert published == pytest.approx({name: float(rows[-1][name]) for name in published})
    names = {"threshold_1", "threshold_2", "clean_fraction"}
    assert set(published) == {f"{group}/{name}" for group in names for name in CLASSES}
    picture = Image.open(whole / "eval" / "report.png")
    assert picture.height > 110 * 2.6 * (1.2 + 3 * 0.6 + 2 * 1.0) - 2  # curves, three rows of values, two of labels


def test_warm_up_ends_and_is_remembered(phantom: Path, tmp_path: Path) -> None:
    """The classes are predicted, as far as the schedule knows: in the third epoch it selects."""
    workflow = training_workflow("clcs", tmp_path, phantom, **SHORT)
    loss, noted = part(workflow, "loss"), []
    workflow.trainer.add_event_handler("EPOCH_STARTED", lambda: noted.append(bool(loss.warming_up)))
    take = loss.take_totals
    loss.take_totals = lambda: take()._replace(predicted=torch.full((2, 1, 3), 10**6))
    workflow.run()
    assert noted == [True, True, False, False]
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert [float(row["clean_fraction/background"]) < 1 for row in rows] == [False, False, True, True]
    state = torch.load(tmp_path / "models" / "training_state.pt", weights_only=True)
    assert not state["objects"]["loss"]["warming_up"]


def test_any_monai_network_can_be_both_branches(phantom: Path, tmp_path: Path) -> None:
    network = {"_target_": "monai_noisylabel.networks.collaborative_network", "network": "monai.networks.nets.UNet"}
    network |= {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 8], "strides": [2, 2]}
    settings = {**SHORT, "max_epochs": 1, "network_def": network}
    del settings["network_def#channels"]
    workflow = training_workflow("clcs", tmp_path, phantom, **settings)
    workflow.run()
    assert workflow.trainer.network.bottleneck == "model.1.submodule.1.submodule"
    settings["network_def"] = {**network, "_target_": "monai.networks.nets.UNet"}
    del settings["network_def"]["network"]
    with pytest.raises(TypeError, match=r"In the bundle clcs another network is named by --network_def#network"):
        training_workflow("clcs", tmp_path / "plain", phantom, **settings).trainer.run()


@pytest.mark.parametrize(
    ("name", "write", "labels"),
    [
        ("endovis18", endovis18, ["background", "shaft", "wrist", "clasper"]),
        ("riga", riga, ["no_optic disc", "optic disc", "no_optic cup", "optic cup"]),
    ],
)
def test_the_papers_datasets_in_their_published_layout(
    name: str, write: Callable[[Path], None], labels: list[str], tmp_path: Path
) -> None:
    """Colours that exclude one another; disc and cup, which overlap: a vote on each."""
    data = tmp_path / name
    write(data)
    before = {path: path.read_bytes() for path in data.rglob("*.*")}
    settings = {"manifest": name, "size": [32, 32], "max_epochs": 2, "batch_size": 2, "noise": "none"}
    training_workflow("clcs", tmp_path, data, **settings, **{"network_def#channels": [4, 4, 8, 8]}).run()
    groups = ("threshold_1", "threshold_2", "clean_fraction")
    assert set(outcome(tmp_path)["published"]) == {f"{group}/{label}" for group in groups for label in labels}
    assert {path: path.read_bytes() for path in data.rglob("*.*")} == before


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Six training volumes, one step per epoch: a batch of six, or of three twice; the last step selects."""
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings: dict[str, Any] = {"spatial_dims": 3, "size": [32, 32, 8], "max_epochs": 3, "noise": "missing"}
    settings |= {"network_def#norm": "instance", "network_def#mapping_dropout": 0.0, "clcs#warm_up": 0.0}
    settings |= {"optimizer#_target_": "torch.optim.SGD", "learning_rate": 0.02}
    one, two = tmp_path / "one", tmp_path / "two"
    training_workflow("clcs", one, phantom, **settings, batch_size=6, **{"network_def#channels": [4, 4, 8, 8]}).run()
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    train_on_two("clcs", two, phantom, *flags, "--batch_size", "3")
    published = [outcome(folder)["published"] for folder in (one, two)]
    assert published[0] == pytest.approx(published[1], rel=1e-3)
    assert published[0]["clean_fraction/background"] < 1
    states = [
        torch.load(folder / "models" / "training_state.pt", weights_only=True)["objects"] for folder in (one, two)
    ]
    np.testing.assert_allclose(*(state["loss"]["counts"] for state in states), rtol=1e-3, atol=2)
    weights = [torch.load(folder / "models" / "model_final.pt", weights_only=True) for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6, msg=name)
