"""How well an audit finds simulated errors, beside cleanlab and MONAI on the same probabilities.

By default on a small phantom whose probabilities the audit makes itself. For a table of your own:

    noisylabel simulate jsrt --dataset_dir DIR --recipe recipe.json --out NOISY --with_images
    export NOISYLABEL_SIMULATION=NOISY NOISYLABEL_CLEAN=DIR NOISYLABEL_PROBABILITIES=P NOISYLABEL_DIMS=2
    pytest -n 0 -m benchmark tests/benchmarks/test_detection_benchmark.py

Without NOISYLABEL_PROBABILITIES they come from the bundle ``baseline`` in two folds, with the options of
NOISYLABEL_OVERRIDES, such as "max_epochs=40 batch_size=16". The dimensions are the manifest's by default. cleanlab is
used where it is installed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from dataset_files import real_data
from detection_rows import HEADER, Simulation
from running_bundles import REPOSITORY

from monai_noisylabel.audit import BundleFolds
from monai_noisylabel.data import load_manifest, make_phantom
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.simulate import simulate_dataset

pytestmark = [pytest.mark.benchmark, pytest.mark.realdata]

BASELINE = REPOSITORY / "bundles" / "baseline"
CHANCE = 0.03
"""By how much few cases let one score pass another."""
RECIPE = {"alpha": 0.5, "models": [{"model": "boundary", "beta": 4}, "missing", {"model": "affine", "beta": 0.4}]}


def _show(title: str, simulation: Simulation, out: Path, probabilities: Path | None, folds: BundleFolds | None) -> None:
    rows = simulation.rows(out, probabilities, folds)
    wrong = sum(simulation.wrong.values())
    print(f"\n{title}: {wrong} of {len(simulation.wrong)} cases wrong\n{HEADER}", *rows, sep="\n")
    ours, others = rows[0], [row for row in rows[1:] if not np.isnan(row.auroc)]
    assert all(ours.auroc >= row.auroc - CHANCE for row in others)
    assert all(ours.ap >= row.ap - CHANCE for row in others)


def test_a_simulation_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = os.environ.get("NOISYLABEL_SIMULATION")
    if noisy is None:
        pytest.skip("set NOISYLABEL_SIMULATION and NOISYLABEL_CLEAN, see the beginning of this file")
    given = os.environ.get("NOISYLABEL_PROBABILITIES")
    dims = os.environ.get("NOISYLABEL_DIMS")
    simulation = Simulation(Path(noisy), Path(os.environ["NOISYLABEL_CLEAN"]), int(dims) if dims else None)
    options = tuple(os.environ.get("NOISYLABEL_OVERRIDES", "").split())
    with capsys.disabled():
        folds = None if given else BundleFolds(BASELINE, 2, options)
        _show(Path(noisy).name, simulation, tmp_path / "out", Path(given) if given else None, folds)


def test_on_a_phantom(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    clean = make_phantom(tmp_path / "phantom", cases=24, shape=(64, 64, 12), spacing=(5, 5, 16))
    content = load_manifest("phantom_hcc").model_dump(mode="json")
    content["splits"] = {"order": "sorted", "train": {}, "val": {"count": 1}, "test": {"count": 1}}
    content["preprocessing"] |= {"slices": "all", "size": [64, 64]}
    made = Manifest.model_validate({**content, "preprocessing": {**content["preprocessing"], "size": None}})
    simulate_dataset(made, clean, RECIPE, tmp_path / "noisy", spatial_dims=3, classes=["liver"], with_images=True)
    simulation = Simulation(tmp_path / "noisy", clean, 2)
    options = ("max_epochs=6", "network_def#channels=[8,16,32,32]", "val_interval=2", "batch_size=16")
    with capsys.disabled():
        _show("phantom", simulation, tmp_path / "out", None, BundleFolds(BASELINE, 2, options))


def test_hippocampus_out_of_the_training_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Validation and test cases, so that settings may be chosen by them; larger networks need a graphics card."""
    if "NOISYLABEL_LONG" not in os.environ:
        pytest.skip("hours on a processor; set NOISYLABEL_LONG=1")
    clean = real_data("hippocampus")
    content = load_manifest("hippocampus").model_dump(mode="json")
    content["splits"] = {"order": "sorted", "train": {}, "val": {"count": 1}, "test": {"count": 180}}
    made = Manifest.model_validate(content)
    simulate_dataset(made, clean, RECIPE, tmp_path / "noisy", with_images=True)
    simulation = Simulation(tmp_path / "noisy", clean, 3)
    with capsys.disabled():
        _show("hippocampus", simulation, tmp_path / "out", None, BundleFolds(BASELINE, 2, ("max_epochs=20",)))
