"""Bundles run as a user runs them: train, evaluate, predict, track, go on, refuse."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import nibabel
import numpy as np
import pytest
from running_bundles import BUNDLES, REPOSITORY, run, training_command

pytestmark = pytest.mark.bundle

SHORT = ("--max_epochs", "3", "--val_interval", "1", "--noise", "{'model':'missing','alpha':0.5}")

SAME_FOR_ALL = ("baseline", "self_cleansing", "co_teaching", "clcs")
"""Bundles whose evaluation and inference are run; test_bundle_contract.py shows that the others' files say the same."""


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every bundle trained for three epochs, with MLflow tracking."""
    return {bundle: train(bundle, phantom, tmp_path_factory.mktemp(bundle)) for bundle in BUNDLES}


def train(bundle: str, phantom: Path, folder: Path) -> Path:
    every_epoch = ("--cleansing#interval", "1", "--cleansing#min_dice", "0") if bundle == "self_cleansing" else ()
    result = run(training_command(bundle, folder, phantom, *SHORT, *every_epoch, "--tracking", "mlflow"))
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Dice on the test set" in result.stdout
    return folder


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_run_leaves_numbers_models_and_a_picture(bundle: str, trained: dict[str, Path]) -> None:
    folder = trained[bundle]
    rows = list(csv.DictReader((folder / "eval" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    summary = json.loads((folder / "eval" / "summary.json").read_text())
    assert summary["settings"]["method"] == bundle
    best = summary["test_dice"]["b_model"]
    at_best = next(row for row in rows if row["epoch"] == str(best["epoch"]))
    assert best["dice"]["mean"] == pytest.approx(float(at_best["test_mean_dice"]), abs=1e-9)
    assert summary["test_dice"]["l_model"]["dice"]["mean"] == pytest.approx(float(rows[-1]["test_mean_dice"]), abs=1e-9)
    others = summary["settings"].get("folds", {}).get("epochs", 0)  # epochs in which other networks learned
    assert max(float(row["val_mean_dice"]) for row in rows[others:]) == float(at_best["val_mean_dice"])
    assert 0.2 < summary["training_labels"]["given_to_clean"]["mean"] < 0.9  # half of the annotations are missing
    assert (folder / "models" / "model.pt").exists()
    assert (folder / "models" / "model_final.pt").exists()
    assert (folder / "eval" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_self_cleansing_tells_every_round_and_ranks_the_labels(trained: dict[str, Path]) -> None:
    evaluation = trained["self_cleansing"] / "eval"
    summary = json.loads((evaluation / "summary.json").read_text())
    samples = summary["training_labels"]["cases"]
    assert [entry["epoch"] for entry in summary["rounds"]] == [1, 2]
    assert all(sum(entry["decisions"].values()) == samples for entry in summary["rounds"])
    rows = list(csv.DictReader((evaluation / "labels.csv").open()))
    assert len(rows) == samples
    agreement = [float(row["dice_to_given"]) for row in rows]
    assert agreement == sorted(agreement)
    assert min(agreement) < 1.0


@pytest.mark.parametrize("bundle", BUNDLES)
def test_tracking_logs_the_run(bundle: str, trained: dict[str, Path]) -> None:
    with sqlite3.connect(next(trained[bundle].rglob("mlruns.db"))) as database:
        metrics = {row[0] for row in database.execute("select distinct key from metrics")}
        status = {row[0] for row in database.execute("select status from runs")}
    assert {"train_loss", "val_mean_dice", "val_mean_dice_liver"} <= metrics
    assert status == {"FINISHED"}


@pytest.mark.parametrize("bundle", SAME_FOR_ALL)
def test_evaluate_repeats_the_best_models_numbers(bundle: str, trained: dict[str, Path], phantom: Path) -> None:
    folder = trained[bundle]
    result = run(training_command(bundle, folder, phantom, config="train.json+evaluate.json"))
    assert result.returncode == 0, result.stderr[-2000:]
    rows = list(csv.DictReader((folder / "eval" / "evaluation.csv").open()))
    summary = json.loads((folder / "eval" / "summary.json").read_text())
    mean_liver = np.nanmean([float(row["liver"]) for row in rows])
    assert mean_liver == pytest.approx(summary["test_dice"]["b_model"]["dice"]["liver"], abs=1e-3)


@pytest.mark.parametrize("bundle", SAME_FOR_ALL)
def test_inference_writes_labels_on_the_images_grid(
    bundle: str, trained: dict[str, Path], phantom: Path, tmp_path: Path
) -> None:
    root = REPOSITORY / "bundles" / bundle
    image = phantom / "images" / "liver_000.nii.gz"
    arguments = ["-m", "monai.bundle", "run", "--config_file", str(root / "configs" / "inference.json")]
    arguments += ["--bundle_root", str(root), "--ckpt_dir", str(trained[bundle] / "models")]
    arguments += ["--output_dir", str(tmp_path), "--network_def#channels", "[4,4,8,8]", "--images", str(image)]
    result = run(arguments)
    assert result.returncode == 0, result.stderr[-2000:]
    written = nibabel.load(next(tmp_path.rglob("*.nii.gz")))
    original = nibabel.load(image)
    assert written.shape == original.shape
    assert np.allclose(written.affine, original.affine)
    assert set(np.unique(np.asarray(written.dataobj))) <= {0, 1, 2}


def test_a_finished_run_is_not_trained_again(trained: dict[str, Path], phantom: Path) -> None:
    folder = trained["baseline"]
    before = (folder / "eval" / "metrics.csv").read_bytes()
    result = run(training_command("baseline", folder, phantom, *SHORT))
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Continuing after epoch 3 of 3" in result.stdout
    assert (folder / "eval" / "metrics.csv").read_bytes() == before


def test_a_folder_of_another_run_is_refused(trained: dict[str, Path], phantom: Path) -> None:
    folder = trained["baseline"]
    before = (folder / "models" / "model.pt").read_bytes()
    result = run(training_command("baseline", folder, phantom, *SHORT, "--seed", "7"))
    assert result.returncode != 0
    assert "seed: 0 there, 7 now" in result.stderr
    assert (folder / "models" / "model.pt").read_bytes() == before


def test_any_monai_network_can_take_the_place_of_the_backbone(phantom: Path, tmp_path: Path) -> None:
    network = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    network["features"] = [4, 4, 8, 8, 8, 4]
    arguments = training_command(
        "self_cleansing", tmp_path, phantom, "--max_epochs", "2", "--network_def", str(network)
    )
    del arguments[arguments.index("--network_def#channels") : arguments.index("--network_def#channels") + 2]
    refused = run(arguments)
    assert refused.returncode != 0
    assert "upcat_1" in refused.stderr  # the error names the layers to choose from
    result = run([*arguments, "--feature_layer", "upcat_1"])
    assert result.returncode == 0, result.stderr[-2000:]


def test_volumes_train_in_3d_too(phantom: Path, tmp_path: Path) -> None:
    size = ("--spatial_dims", "3", "--size", "[32,32,8]", "--batch_size", "2")
    result = run(training_command("self_cleansing", tmp_path, phantom, "--max_epochs", "2", *size))
    assert result.returncode == 0, result.stderr[-2000:]


def test_options_for_speed_work(phantom: Path, tmp_path: Path) -> None:
    options = ("--channels_last", "True", "--augment", "True", "--num_workers", "2", "--amp", "True")
    result = run(training_command("self_cleansing", tmp_path, phantom, "--max_epochs", "2", *options))
    assert result.returncode == 0, result.stderr[-2000:]
