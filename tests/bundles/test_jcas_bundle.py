"""The bundle jcas: both stages in one run, matrices learned, kept and shown, any dataset, two processes."""

from __future__ import annotations

import csv
import json
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
from monai_noisylabel.losses import JCASLoss
from monai_noisylabel.networks import AffinityNetwork, SelfCleansingNet

pytestmark = pytest.mark.bundle

SMALL: dict[str, Any] = {"network_def#channels": [4, 4, 8, 8]}
SHORT = {**SMALL, "max_epochs": 4, "val_interval": 1, "noise": {"model": "class_flip", "alpha": 1.0, "keep": 0.7}}


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def matrices(folder: Path) -> list[dict[str, float]]:
    """Entries of the learned matrices, epoch by epoch."""
    rows = csv.DictReader((folder / "eval" / "metrics.csv").open())
    return [{name: float(value) for name, value in row.items() if "_transition" in name} for row in rows]


def test_settings_reach_network_and_loss(phantom: Path, tmp_path: Path) -> None:
    settings = {"correction#warm_up": 3, "correction#volume_weight": 0.5, "correction#max_pairs": 100}
    settings |= {"correction#learning_rate": 0.5, "affinity#cell": 8, "affinity#shallow_layer": "residual_block_4"}
    workflow = training_workflow("jcas", tmp_path, phantom, **SHORT, **settings)
    network, loss = workflow.trainer.network, workflow.trainer.loss_function
    assert type(network) is AffinityNetwork
    assert type(network.network) is SelfCleansingNet
    assert network.network is part(workflow, "plain_network")
    assert (network.layers, network.cell) == (["residual_block_6", "residual_block_4"], 8)
    assert type(loss) is JCASLoss
    assert (loss.warm_up, loss.weights["volume"], loss.max_pairs) == (3, 0.5, 100)
    groups = workflow.trainer.optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.001, 0.5]
    learned = {id(p) for group in groups for p in group["params"]}
    assert learned == {id(p) for p in [*network.parameters(), *loss.parameters()]}
    for evaluator in ("validate#evaluator", "test#evaluator"):
        assert part(workflow, evaluator).network is network.network


def test_a_network_without_the_layers_says_which_it_has(phantom: Path, tmp_path: Path) -> None:
    network = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    network["features"] = [4, 4, 8, 8, 8, 4]
    with pytest.raises(RuntimeError, match=r"AffinityNetwork") as refused:
        training_workflow("jcas", tmp_path, phantom, network_def=network).trainer  # noqa: B018
    assert "upcat_1" in str(refused.value.__cause__)
    layers = {"affinity#layer": "upcat_1", "affinity#shallow_layer": "upcat_2"}
    workflow = training_workflow("jcas", tmp_path, phantom, network_def=network, **layers, max_epochs=1, noise="none")
    workflow.run()
    assert len(matrices(tmp_path)) == 1


def test_an_interrupted_run_ends_as_the_uninterrupted_one(phantom: Path, tmp_path: Path) -> None:
    """Interrupted in stage 2, with a sample of pairs."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {**SHORT, "correction#max_pairs": 2000}
    uninterrupted = training_workflow("jcas", whole, phantom, **settings)
    uninterrupted.run()
    assert part(uninterrupted, "jcas_loss").epoch == 3  # follows the training, from 0
    run_until_interrupted(training_workflow("jcas", parts, phantom, **settings), epoch=3)
    training_workflow("jcas", parts, phantom, **settings).run()
    assert outcome(parts, "jcas_loss", "network") == outcome(whole, "jcas_loss", "network")
    learned = matrices(whole)
    assert len(learned[0]) == 9 + 4
    start = learned[0]["class_transition/liver to liver"]
    assert start == pytest.approx(0.8075, abs=1e-4)  # one epoch of warm-up: as at the start
    assert len({entries["class_transition/liver to liver"] for entries in learned}) == 4
    assert json.loads((whole / "eval" / "summary.json").read_text())["published"] == pytest.approx(learned[-1])
    saved = torch.load(whole / "models" / "model_final.pt", weights_only=True)
    SelfCleansingNet(2, 1, 3, channels=(4, 4, 8, 8)).load_state_dict(saved)  # a plain state dict of the network


@pytest.mark.parametrize(
    ("name", "write", "entries"),
    [
        ("endovis18", endovis18, 16 + 4),  # colours as classes, one label per frame
        ("riga", riga, 2 * 8),  # disc and cup overlap
    ],
)
def test_any_dataset_in_its_published_layout(
    name: str, write: Callable[[Path], None], entries: int, tmp_path: Path
) -> None:
    data = tmp_path / name
    write(data)
    before = {path: path.read_bytes() for path in data.rglob("*.*")}
    settings = {
        **SMALL,
        "max_epochs": 2,
        "batch_size": 2,
        "size": [32, 32],
        "noise": {"model": "ellipse", "alpha": 1.0},
    }
    training_workflow("jcas", tmp_path, data, manifest=name, **settings).run()
    learned = matrices(tmp_path)
    assert [len(epoch) for epoch in learned] == [entries] * 2
    assert learned[1] != learned[0]
    assert np.asarray(Image.open(tmp_path / "eval" / "report.png")).std() > 0
    assert {path: path.read_bytes() for path in data.rglob("*.*")} == before


def test_volumes(phantom: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "spatial_dims": 3, "size": [32, 32, 8], "batch_size": 2, "max_epochs": 2, "amp": True}
    training_workflow("jcas", tmp_path, phantom, **settings, noise="missing").run()
    assert len(matrices(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_learn_the_matrices_of_one(tmp_path: Path) -> None:
    """Six training volumes, one step of plain gradient descent per epoch: a batch of six, or of three twice."""
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings = {"spatial_dims": 3, "size": [32, 32, 8], "network_def#norm": "instance", "max_epochs": 4}
    settings |= {"optimizer#_target_": "torch.optim.SGD", "val_interval": 4, "correction#learning_rate": 1.0}
    settings |= {"correction#consistency_weight": 10.0, "noise": {"model": "class_flip", "alpha": 0.5, "keep": 0.7}}
    one, two = tmp_path / "one", tmp_path / "two"
    training_workflow("jcas", one, phantom, **settings, **SMALL, batch_size=6).run()
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    train_on_two("jcas", two, phantom, *flags, "--batch_size", "3")
    learned = [matrices(folder) for folder in (one, two)]
    assert learned[1][-1] == pytest.approx(learned[0][-1], rel=1e-5)
    assert learned[0][-1] != pytest.approx(learned[0][0], rel=1e-2)
    states = [torch.load(folder / "models/training_state.pt", weights_only=True)["objects"] for folder in (one, two)]
    counts = [
        next(value for name, value in state["jcas_loss"].items() if name.endswith("counts")).tolist()
        for state in states
    ]
    assert counts[0] == counts[1]
    weights = [torch.load(folder / "models" / "model_final.pt", weights_only=True) for folder in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
