"""The bundles robust_loss and t_loss: members can be chosen, nu is learned, kept and shared, any dataset trains."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import isic2017, shenzhen
from PIL import Image
from running_bundles import run, train_on_two, training_command, training_workflow

from monai_noisylabel.data import make_phantom
from monai_noisylabel.losses import NAMED_LOSSES

pytestmark = pytest.mark.bundle

SMALL = {"network_def#channels": [4, 4, 8, 8]}


@pytest.mark.parametrize("loss", NAMED_LOSSES)
def test_every_member_trains_on_the_phantom(loss: str, phantom: Path, tmp_path: Path) -> None:
    corrected = loss in ("forward", "backward")
    settings = {"transition": (0.9 * torch.eye(3) + 0.1 / 3).tolist()} if corrected else {}
    workflow = training_workflow("robust_loss", tmp_path, phantom, loss=loss, loss_settings=settings, **SMALL)
    trainer = workflow.trainer
    assert type(trainer.loss_function) is NAMED_LOSSES[loss]
    batch = next(iter(workflow.parser.get_parsed_content("train#dataloader")))
    value = trainer.loss_function(trainer.network(batch["image"]), batch["label"])
    value.backward()
    assert math.isfinite(value.item())
    assert max(float(p.grad.abs().max()) for p in trainer.network.parameters() if p.grad is not None) > 0


def test_unknown_member_names_the_known_ones(phantom: Path, tmp_path: Path) -> None:
    result = run(training_command("robust_loss", tmp_path, phantom, "--loss", "gce"))
    assert result.returncode != 0
    assert "loss must be one of CE, MAE" in result.stderr


def nu(folder: Path) -> list[float]:
    return [float(row["nu"]) for row in csv.DictReader((folder / "eval" / "metrics.csv").open())]


def test_nu_is_learned_and_goes_on_where_it_was(phantom: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ("--nu_learning_rate", "0.1", "--noise", "missing")
    assert run(training_command("t_loss", whole, phantom, "--max_epochs", "2", *more)).returncode == 0
    values = nu(whole)
    assert len(set(values)) == 2
    assert all(value > 0 and abs(math.log(value) - 1) > 1e-3 for value in values)
    shutil.copytree(whole, parts)
    state = torch.load(parts / "models" / "training_state.pt", weights_only=True)
    assert math.exp(state["objects"]["t_loss"]["log_nu"]) == pytest.approx(values[-1])
    workflow = training_workflow("t_loss", parts, phantom, nu_learning_rate=0.1, noise="missing", max_epochs=2, **SMALL)
    workflow.run()  # finished: restores and does nothing more
    restored = workflow.parser.get_parsed_content("t_loss")
    assert restored.nu.item() == pytest.approx(values[-1])


@pytest.mark.distributed
def test_two_processes_learn_one_nu(tmp_path: Path) -> None:
    """Six training volumes, one step of plain gradient descent per epoch: a batch of six, or of three twice."""
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    shared = ["--spatial_dims", "3", "--size", "[32,32,8]", "--network_def#norm", "instance", "--max_epochs", "3"]
    shared += ["--optimizer#_target_", "torch.optim.SGD", "--nu_learning_rate", "1.0", "--val_interval", "3"]
    one, two = tmp_path / "one", tmp_path / "two"
    single = run(training_command("t_loss", one, phantom, *shared, "--batch_size", "6"))
    assert single.returncode == 0, single.stderr[-2000:]
    train_on_two("t_loss", two, phantom, *shared, "--batch_size", "3")
    assert nu(two) == pytest.approx(nu(one), rel=1e-5)
    assert len(set(nu(one))) == 3


@pytest.mark.parametrize(("name", "write"), [("isic2017", isic2017), ("shenzhen", shenzhen)])
def test_photographs_and_radiographs_in_their_published_layout(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    """Colour JPEG with PNG masks; PNG radiographs, some stored in colour and some without a mask."""
    data = tmp_path / name
    write(data)
    before = {path: path.read_bytes() for path in data.rglob("*.*")}
    arguments = training_command("t_loss", tmp_path, data, "--manifest", name, "--size", "[32,32]")
    result = run([*arguments, "--max_epochs", "2", "--batch_size", "2", "--noise", "{'model':'affine','alpha':1.0}"])
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(nu(tmp_path)) == 2
    picture = np.asarray(Image.open(tmp_path / "eval" / "report.png"))
    assert picture.std() > 0
    assert {path: path.read_bytes() for path in data.rglob("*.*")} == before
