"""Inference on real CT: a NIfTI volume and a DICOM series, through a manifest of the user's own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from running_bundles import REPOSITORY, run

from monai_noisylabel.data import load_manifest
from monai_noisylabel.networks import SelfCleansingNet

pytestmark = [pytest.mark.bundle, pytest.mark.realdata]

REALDATA = Path(os.environ.get("NOISYLABEL_REALDATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    torch.save(SelfCleansingNet(2, 1, 3, channels=(4, 4, 8, 8)).state_dict(), folder / "model.pt")
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's classes and window, for CT of any voxel size."""
    content = load_manifest("phantom_hcc").model_dump(mode="json")
    content["name"] = "own_ct"
    content["preprocessing"] |= {"spacing": [3.0, 3.0, -1], "size": [96, 96], "fit": "pad"}
    path = tmp_path_factory.mktemp("manifest") / "own_ct.json"
    path.write_text(json.dumps(content))
    return path


def predict(image: Path, manifest: Path, model: Path, out: Path) -> nibabel.Nifti1Image:
    config = REPOSITORY / "bundles" / "self_cleansing" / "configs" / "inference.json"
    arguments = ["-m", "monai.bundle", "run", "--config_file", str(config), "--manifest", str(manifest)]
    arguments += ["--ckpt_dir", str(model), "--output_dir", str(out), "--network_def#channels", "[4,4,8,8]"]
    result = run([*arguments, "--images", str(image)])
    assert result.returncode == 0, result.stderr[-2000:]
    return nibabel.load(next(out.rglob("*.nii.gz")))


@pytest.mark.skipif(not (REALDATA / "ct_spleen").exists(), reason="the data set ct_spleen is not here")
def test_nifti_volume(manifest: Path, model: Path, tmp_path: Path) -> None:
    image = REALDATA / "ct_spleen" / "image.nii.gz"
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    written = predict(image, manifest, model, tmp_path)
    original = nibabel.load(image)
    assert written.shape == original.shape
    assert np.allclose(written.affine, original.affine, atol=1e-4)
    assert set(np.unique(np.asarray(written.dataobj))) <= {0, 1, 2}
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before


@pytest.mark.skipif(not (REALDATA / "ct_dicom_seg").exists(), reason="the data set ct_dicom_seg is not here")
def test_dicom_series(manifest: Path, model: Path, tmp_path: Path) -> None:
    series = REALDATA / "ct_dicom_seg" / "series"
    written = predict(series, manifest, model, tmp_path)
    original = itk.imread(sorted(str(path) for path in series.iterdir()))
    assert written.shape == tuple(itk.size(original))
    assert np.allclose(written.header.get_zooms()[:3], list(itk.spacing(original)), atol=1e-3)
