"""Two processes train the model that one process trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from running_bundles import run, train_on_two, training_command

from monai_noisylabel.data import LabelStore, make_phantom

pytestmark = [pytest.mark.bundle, pytest.mark.distributed]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Six training volumes, one step per epoch: a batch of six, or of three in each of two processes.

    A batch would hold four: the three of a process are no rest to be dropped.

    The loss is made a mean over samples (by default it pools the voxels of a process's share of the batch) and the
    normalisation works on each sample alone, so that the mean of the two processes' gradients is the gradient of the
    whole batch.
    """
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    shared = ["--spatial_dims", "3", "--size", "[32,32,8]", "--network_def#norm", "instance", "--max_epochs", "4"]
    shared += ["--base_loss#batch", "False", "--cleansing#min_dice", "0"]
    shared += ["--noise", "{'model':'missing','alpha':0.5}", "--cleansing#warm_up", "1", "--cleansing#interval", "1"]
    one, two = tmp_path / "one", tmp_path / "two"
    single = run(training_command("self_cleansing", one, phantom, *shared, "--batch_size", "6"))
    assert single.returncode == 0, single.stderr[-2000:]
    train_on_two("self_cleansing", two, phantom, *shared, "--batch_size", "4")
    summaries = [json.loads((folder / "eval" / "summary.json").read_text()) for folder in (one, two)]
    assert [entry["decisions"] for entry in summaries[0]["rounds"]] == [
        entry["decisions"] for entry in summaries[1]["rounds"]
    ]
    weights = [torch.load(folder / "models" / "model_final.pt", weights_only=True) for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)
    stores = [LabelStore(folder / "models" / "label_store") for folder in (one, two)]
    assert stores[0].round == stores[1].round == 3
    for number in range(1, 4):
        assert sorted(stores[0].record(number)["cases"]) == sorted(stores[1].record(number)["cases"])
