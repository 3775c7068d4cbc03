"""A real cell: a bundle trained as a study trains it, with what it leaves."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from running_bundles import REPOSITORY

from monai_noisylabel.data import make_phantom
from monai_noisylabel.study.cells import Cell
from monai_noisylabel.study.process import LOG, RECORD, run_cell
from monai_noisylabel.study.records import read_records
from monai_noisylabel.study.tracking import TRACKING_VARIABLE, default_tracking_uri, open_store

pytestmark = pytest.mark.bundle
EPOCHS = 2


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    """A baseline of two epochs, and the folder of its study."""
    out = tmp_path_factory.mktemp("study")
    data = make_phantom(out / "data" / "phantom", cases=8, shape=(64, 64, 8), spacing=(5, 5, 20))
    options = {"manifest": "phantom_hcc", "dataset_dir": str(data), "noise": {"model": "missing", "alpha": 0.5}}
    options |= {"noisy_validation": True, "seed": 3, "max_epochs": EPOCHS, "val_interval": 1}
    options |= {"network_def#channels": [4, 4, 8, 8]}
    bundle = str(REPOSITORY / "bundles" / "baseline")
    cell = Cell("real", "phantom", "missing", "baseline", 3, bundle, "digest", 1, options)
    cell.folder(out).mkdir(parents=True)
    (cell.folder(out) / "cell.json").write_text(json.dumps(asdict(cell)))
    uri = default_tracking_uri(out)
    open_store(uri, cell.study)
    open_store(uri, cell.study)  # what is there is left as it is
    outcome = run_cell(cell.folder(out), {TRACKING_VARIABLE: uri})
    assert outcome.state == "finished", outcome.message
    return cell, out


def test_case_by_case_dice_is_that_of_the_summary(cell: tuple[Cell, Path]) -> None:
    records = read_records([cell[0]], cell[1])
    dice = records.results[records.results["class"] != "mean"].set_index(["model", "class"])["dice"].astype(float)
    cases = records.cases.groupby(["model", "class"])["dice"].mean()
    assert set(cases.index) == {(m, c) for m in ("b_model", "l_model", "last_10") for c in ("liver", "tumour")}
    pd.testing.assert_series_equal(cases, dice.sort_index(), check_names=False, atol=1e-6)
    assert set(records.cases["patient"]) == set(records.cases["case"])
    assert len(records.epochs) == EPOCHS
    assert records.epochs["test_dice"].notna().all()


def test_samples_are_of_the_last_epoch(cell: tuple[Cell, Path]) -> None:
    with np.load(cell[0].folder(cell[1]) / "eval" / "samples.npz") as arrays:
        cases = {name.partition("|")[0] for name in arrays.files}
        assert {name.partition("|")[2] for name in arrays.files} == {"image", "label", "pred"}
        for case in cases:
            assert arrays[f"{case}|image"].shape == (1, 64, 64)
            assert arrays[f"{case}|pred"].shape == arrays[f"{case}|label"].shape == (2, 64, 64)
            assert arrays[f"{case}|label"][0].any(), "the slice with most foreground"


def test_cost_and_versions(cell: tuple[Cell, Path]) -> None:
    record = json.loads((cell[0].folder(cell[1]) / RECORD).read_text())
    cost = record["cost"]
    assert cost["seconds_per_epoch"] == pytest.approx(record["summary"]["seconds"] / EPOCHS)
    assert 100 < cost["peak_memory_mib"] < 4000
    assert 0 <= cost["runner_seconds"] < cost["wall_seconds"]
    assert record["summary"]["threads"] == 1
    assert {"monai", "torch", "python", "device"} <= set(record["made_by"])


def test_it_is_a_named_run_of_mlflow(cell: tuple[Cell, Path]) -> None:
    with sqlite3.connect(cell[1] / "mlruns.db") as database:
        runs = database.execute("select name, status from runs").fetchall()
        metrics = dict(database.execute("select key, count(*) from metrics group by key").fetchall())
        tags = dict(database.execute("select key, value from tags").fetchall())
        experiments = [row[0] for row in database.execute("select name from experiments")]
    assert runs == [("phantom_missing_baseline_seed3", "FINISHED")]
    assert "real" in experiments
    assert metrics["val_mean_dice"] == EPOCHS
    assert {"test_dice_l_model", "test_dice_b_model", "test_dice_last_10", "peak_memory_mib"} <= set(metrics)
    assert (tags["method"], tags["noise"], tags["seed"]) == ("baseline", "missing", "3")


def test_a_finished_cell_is_kept(cell: tuple[Cell, Path]) -> None:
    folder = cell[0].folder(cell[1])
    before = (folder / LOG).read_bytes()
    assert run_cell(folder).state == "kept"
    assert (folder / LOG).read_bytes() == before
