"""Trainings on simulated noise: on a folder that a simulation wrote, and by the same recipe inside the bundle."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from running_bundles import BUNDLES, REPOSITORY, training_workflow

from monai_noisylabel.data import load_dataset
from monai_noisylabel.networks import SelfCleansingNet
from monai_noisylabel.simulate import simulate_dataset

pytestmark = pytest.mark.bundle

CHANNELS = [4, 4, 8, 8]


@pytest.fixture(scope="module")
def recipe(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Labels that an untrained network predicted by inference.json, beside two other models."""
    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(0)
    torch.save(SelfCleansingNet(2, 1, 3, channels=CHANNELS).state_dict(), folder / "model.pt")
    root = REPOSITORY / "bundles" / "self_cleansing"
    workflow = ConfigWorkflow(
        str(root / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(root),
        ckpt_dir=str(folder),
        output_dir=str(folder / "eval"),
        dataset_dir=str(phantom),
        **{"network_def#channels": CHANNELS},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    entry = {"model": "predicted", "labels": str(folder / "eval"), "weight": 2}
    return {"alpha": 0.7, "models": [entry, "missing", {"model": "boundary", "beta": 3}]}


@pytest.fixture(scope="module")
def noisy(phantom: Path, recipe: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom with noisy training labels, on disk."""
    out = tmp_path_factory.mktemp("noisy") / "set"
    report = simulate_dataset("phantom_hcc", phantom, recipe, out, seed=5, with_images=True)
    assert report.failed == {}
    assert set(report.summary["models"]) == {"none", "predicted", "missing", "boundary"}
    return out


def labels_of(workflow: ConfigWorkflow) -> dict[str, np.ndarray]:
    """What the training set of a bundle holds."""
    return {item["case"]: item["label"].numpy() for item in workflow.parser.get_parsed_content("train#dataset")}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_trains_on_the_folder_and_sees_the_labels_of_the_recipe(
    bundle: str, phantom: Path, recipe: dict[str, object], noisy: Path, tmp_path: Path
) -> None:
    short = {"network_def#channels": CHANNELS, "max_epochs": 2}
    inside = training_workflow(bundle, tmp_path / "inside", phantom, noise=recipe, seed=5, **short)
    clean = training_workflow(bundle, tmp_path / "clean", phantom, noise="none", **short)
    manifest = str(noisy / "manifest.json")
    workflow = training_workflow(bundle, tmp_path / "disk", noisy, manifest=manifest, noise="none", **short)
    expected, found, given = labels_of(inside), labels_of(workflow), labels_of(clean)
    assert expected.keys() == found.keys() == given.keys()
    for case, label in expected.items():
        np.testing.assert_array_equal(found[case], label, err_msg=case)
    assert any(not np.array_equal(given[case], label) for case, label in expected.items())
    workflow.run()
    workflow.finalize()
    rows = list(csv.DictReader((tmp_path / "disk" / "eval" / "metrics.csv").open()))
    assert np.isfinite([float(row["train_loss"]) for row in rows]).all()
    summary = json.loads((tmp_path / "disk" / "eval" / "summary.json").read_text())
    assert summary["settings"]["manifest"] == manifest
    spec = load_dataset(manifest, noisy)
    assert [item["case"] for item in spec.test] == [item["case"] for item in load_dataset("phantom_hcc", phantom).test]
