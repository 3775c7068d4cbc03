"""Predictions of held-out cases: where the network looked, and what is written."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import manifest, write_ct_dataset
from monai.data import MetaTensor
from monai.transforms import Invertd

from monai_noisylabel.audit.predictions import AddCoveraged, SaveProbabilityd, held_out_items
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.data import load_dataset, preprocessing
from monai_noisylabel.data.case_label import read_case_label

CROPPED = {"normalise": "zscore", "crop": {"size": [4, 4, 4]}, "size": [8, 8, 8], "spacing": [2, 2, 2.5]}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


def test_what_was_cropped_away_has_no_opinion(tmp_path: Path) -> None:
    write_ct_dataset(tmp_path / "data")
    spec = load_dataset(manifest(preprocessing=CROPPED), tmp_path / "data")
    steps = preprocessing(spec)
    item = spec.train[0]
    data = dict(steps({"image": item["image"], "label": item["label"], "case": item["case"]}))
    assert data["image"].shape == (1, 8, 8, 8)
    p = torch.tensor([0.25, 0.5, 0.25]).view(3, 1, 1, 1).expand(3, 8, 8, 8)
    data["pred"] = MetaTensor(p, meta=data["image"].meta)
    data = AddCoveraged("pred")(data)
    data = Invertd("pred", steps, orig_keys="image", nearest_interp=False, to_tensor=True)(data)
    SaveProbabilityd("pred", output_dir=tmp_path / "p")(data)
    with np.load(tmp_path / "p" / f"{item['case']}.npz") as content:
        p, affine = content["probability"], content["affine"]
    assert p.dtype == np.float16
    assert p.shape == (3, 8, 6, 4)
    np.testing.assert_allclose(affine, nibabel.load(item["label"]).affine, atol=1e-3)
    seen = ~np.isnan(p).any(0)
    assert 0 < seen.sum() < seen.size
    assert seen[3:5, 2:4, 1:3].all()
    np.testing.assert_allclose(p[:, seen], np.array([[0.25], [0.5], [0.25]]) * np.ones(seen.sum()), atol=2e-3)
    label = read_case_label(item, spec)
    read = ProbabilityFolder(tmp_path / "p", spec).read(item, label)
    assert np.isnan(read).any(0).sum() == (~seen).sum()


def test_held_out_cases_that_are_still_to_be_predicted(tmp_path: Path) -> None:
    write_ct_dataset(tmp_path / "data", cases=5)
    splits = {"order": "sorted", "train": {"cases": ["c0"]}, "val": {"cases": ["c1"]}, "test": {}}
    path = tmp_path / "fold.json"
    path.write_text(manifest(splits=splits).model_dump_json())
    found = held_out_items(path, tmp_path / "data", tmp_path / "p", spatial_dims=2)
    assert [item["case"] for item in found] == ["c2", "c3", "c4"]
    assert all("slice" not in item for item in found)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/c3.npz").touch()
    found = held_out_items(path, tmp_path / "data", tmp_path / "p", spatial_dims=2)
    assert [item["case"] for item in found] == ["c2", "c4"]
