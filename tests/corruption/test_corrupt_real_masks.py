"""Noise models on public masks: never empty, never overlapping, as strong as the recipe says."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_noisylabel.corruption import corrupt

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def root() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NOISYLABEL_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set NOISYLABEL_REALDATA to the folder that holds them")
    return folder


def _volumes(folder: Path, count: int) -> dict[str, np.ndarray]:
    if not folder.is_dir():
        pytest.skip(f"no labels at {folder}")
    files = sorted(folder.glob("*.nii.gz"))[:count]
    return {file.name[:-7]: np.asarray(nib.load(file).dataobj).astype(np.uint8)[None] for file in files}


def _assert_multi_class_boundary_noise(labels: dict[str, np.ndarray], num_classes: int, beta: int) -> None:
    changed = 0
    for case, label in labels.items():
        recipe = {"model": "boundary", "alpha": 1.0, "beta": beta}
        noisy, record = corrupt(label, case, recipe, 0, num_classes=num_classes, multi_label=False)
        assert noisy.shape == label.shape
        assert set(np.unique(noisy)) == set(np.unique(label))
        for number, drawn in record.parameters.items():
            assert abs(abs(drawn["shift"]) - beta) <= 3
            if drawn["shift"] < 0:
                assert record.volume_ratio[number] <= 1
                assert not ((noisy == int(number)) & (label != int(number))).any()
            else:
                assert record.volume_ratio[number] >= 1
                assert not ((label == int(number)) & (noisy != int(number))).any()
            changed += record.dice[number] < 1
    assert changed > len(labels)


def test_jsrt_channels(root: Path) -> None:
    folder = root / "jsrt" / "training"
    cases = [file.stem for file in sorted((folder / "lung").glob("*.png"))[:12]]
    if not cases:
        pytest.skip(f"no masks at {folder}")
    for case in cases:
        channels = [
            np.asarray(Image.open(folder / organ / f"{case}.png")) > 0 for organ in ("lung", "heart", "clavicle")
        ]
        label = np.stack(channels).astype(np.uint8)
        recipe = {"model": "boundary", "alpha": 1.0}
        noisy, record = corrupt(label, case, recipe, 0, num_classes=3, multi_label=True)
        assert noisy.any((1, 2)).all()
        for number, drawn in record.parameters.items():
            assert (record.volume_ratio[number] > 1) == (drawn["shift"] > 0)
            assert 0 < record.dice[number] < 1
        # An x-ray lung is large: shifts of at most 8 of 256 pixels leave most of it.
        assert record.dice["1"] > 0.7


def test_acdc_volumes_and_slices(root: Path) -> None:
    volumes = _volumes(root / "acdc" / "labels", 3)
    _assert_multi_class_boundary_noise(volumes, num_classes=4, beta=5)
    slices = {
        f"{case}/{index:03d}": label[..., index] for case, label in volumes.items() for index in range(label.shape[-1])
    }
    _assert_multi_class_boundary_noise(slices, num_classes=4, beta=10)


def test_hippocampus_volumes(root: Path) -> None:
    volumes = _volumes(root / "hippocampus" / "labels", 10)
    _assert_multi_class_boundary_noise(volumes, num_classes=3, beta=5)
    for case, label in volumes.items():
        recipe = {"model": "missing", "alpha": 1.0, "scope": "slice"}
        noisy, record = corrupt(label, case, recipe, 0, num_classes=3, multi_label=False)
        removed = record.parameters["1"]["slices"]
        labelled = np.flatnonzero(label.any((0, 1, 2)))
        assert 0.2 * labelled.size - 0.5 <= len(removed) <= 0.8 * labelled.size + 0.5
        assert np.flatnonzero(noisy.any((0, 1, 2))).tolist() == sorted(set(labelled.tolist()) - set(removed))
