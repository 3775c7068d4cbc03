"""Corrected labels leave the store for a folder of their own, on the grid of the given ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_noisylabel.cli import app
from monai_noisylabel.data import LabelStore, load_dataset, make_phantom, preprocessing
from monai_noisylabel.data.label_geometry import geometry_of


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    return make_phantom(tmp_path / "set", cases=5, shape=(64, 64, 8), spacing=(5, 5, 20))


def test_a_corrected_slice_returns_to_its_volume(dataset: Path, tmp_path: Path) -> None:
    """One slice is corrected to 'tumour everywhere the liver was'; all others stay as given."""
    spec = load_dataset("phantom_hcc", dataset)
    item = spec.train[0]
    label = preprocessing(spec)(item)["label"]
    corrected = np.where(label.numpy() == 1, 2, label.numpy())
    store = LabelStore(tmp_path / "store")
    store.propose(item["case"], corrected, geometry=geometry_of(label))
    store.commit("by hand")
    originals = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in dataset.rglob("*.nii.gz")}
    arguments = ["labels", "export", str(tmp_path / "store"), "phantom_hcc", "--dataset_dir", str(dataset)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    volumes = len({entry["volume"] for entry in spec.train})
    assert f"1 written to {tmp_path / 'out'}, {volumes - 1} never corrected, 0 failed." in result.output
    given = nibabel.load(item["label"])
    written = nibabel.load(tmp_path / "out" / f"{item['volume']}.nii.gz")
    assert np.array_equal(written.affine, given.affine)
    before, after = np.asarray(given.dataobj), np.asarray(written.dataobj)
    assert (after != before).sum() == (label == 1).sum()
    assert set(after[after != before]) == {2}
    assert originals == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in originals}
    again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert again.exit_code == 1
    inside = CliRunner().invoke(app, [*arguments, "--out", str(dataset / "new")])
    assert inside.exit_code == 2
    assert not (dataset / "new").exists()


def test_a_folder_that_is_no_store_is_refused(dataset: Path, tmp_path: Path) -> None:
    arguments = ["labels", "export", str(tmp_path), "phantom_hcc", "--dataset_dir", str(dataset), "--out", "x"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "is no label store" in result.output
