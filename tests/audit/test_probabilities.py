"""Probabilities from anywhere, on the grid of the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dataset_files import write_volume
from simulated import write_hearts, write_pictures

from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.data.case_label import CaseLabel, paths_of, read_case_label


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hearts(tmp_path: Path) -> DatasetSpec:
    return load_dataset(write_hearts(tmp_path / "data"), tmp_path / "data")


@pytest.fixture
def pictures(tmp_path: Path) -> DatasetSpec:
    return load_dataset(write_pictures(tmp_path / "data"), tmp_path / "data")


def _sure(item: dict[str, Any], spec: DatasetSpec) -> tuple[np.ndarray, np.ndarray, CaseLabel]:
    """Probabilities that agree with the label file, in its own axes; its affine; the label."""
    label = read_case_label(item, spec)
    source = label.sources[0]
    held = [np.isin(source.values, spec.label_values[name]) for name in spec.classes]
    p = np.stack([~np.any(held, 0), *held]).astype(np.float32) * 0.8 + 0.05
    return p, source.affine, label


def _agrees(p: np.ndarray, label: CaseLabel) -> bool:
    return bool((p[1:] > 0.5).shape == label.masks.shape and ((p[1:] > 0.5) == label.masks).all())


@pytest.mark.parametrize("kind", ["own", "plain", "nifti", "probabilities", "softmax"])
def test_every_form_in_every_orientation(hearts: DatasetSpec, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "p"
    for item in hearts.train:
        p, affine, _ = _sure(item, hearts)
        path = folder / f"{item['case']}.npz"
        path.parent.mkdir(exist_ok=True)
        if kind == "own":
            np.savez(path, probability=p.astype(np.float16), affine=affine)
        elif kind == "plain":
            np.savez(path, p)
        elif kind == "nifti":
            write_volume(folder / f"{item['case']}.nii.gz", np.moveaxis(p, 0, -1), affine)
        else:  # nnU-Net: axes reversed, a channel for every label value
            values = [0, 10, 20, 30]
            channels = np.zeros((31, *p.shape[1:]), np.float16)
            channels[values] = p
            np.savez(path, **{kind: channels.transpose(0, 3, 2, 1)})
            write_volume(folder / f"{item['case']}.nii.gz", p.argmax(0).astype(np.uint8), affine)
    found = ProbabilityFolder(folder, hearts)
    assert len({read_case_label(item, hearts).sources[0].affine.tobytes() for item in hearts.train}) == 3
    for item in hearts.train:
        label = read_case_label(item, hearts)
        p = found.read(item, label)
        assert p.dtype == np.float32
        assert _agrees(p, label)


def test_values_of_one_class_are_added(hearts: DatasetSpec, tmp_path: Path) -> None:
    item = hearts.train[0]
    p, _, label = _sure(item, hearts)
    channels = np.zeros((31, *p.shape[1:]), np.float32)
    channels[[0, 10, 30]] = p[[0, 1, 3]]
    channels[20] = channels[21] = p[2] / 2  # the cavity has the values 20 and 21
    (tmp_path / "p").mkdir()
    np.savez(tmp_path / "p" / f"{item['case']}.npz", probabilities=channels.transpose(0, 3, 2, 1))
    assert _agrees(ProbabilityFolder(tmp_path / "p", hearts).read(item, label), label)


def test_pictures_of_overlapping_structures(pictures: DatasetSpec, tmp_path: Path) -> None:
    item = pictures.train[0]
    label = read_case_label(item, pictures)
    p = label.masks * np.float32(0.9)
    (tmp_path / "p").mkdir()
    path = tmp_path / "p" / f"{item['case']}.npz"
    for content in ({"probability": p}, {"probabilities": p[..., None].transpose(0, 3, 2, 1)}):
        np.savez(path, **content)
        np.testing.assert_array_equal(ProbabilityFolder(tmp_path / "p", pictures).read(item, label), p)


def _read(spec: DatasetSpec, tmp_path: Path, **content: np.ndarray) -> np.ndarray:
    item = spec.train[0]
    (tmp_path / "p").mkdir(exist_ok=True)
    np.savez(tmp_path / "p" / f"{item['case']}.npz", **content)
    return ProbabilityFolder(tmp_path / "p", spec).read(item, read_case_label(item, spec))


def test_where_the_model_has_not_looked(hearts: DatasetSpec, tmp_path: Path) -> None:
    p, affine, _ = _sure(hearts.train[0], hearts)
    p[:, :3] = np.nan
    assert np.isnan(_read(hearts, tmp_path, probability=p, affine=affine)).sum() == np.isnan(p).sum() > 0
    with pytest.raises(ValueError, match="holds NaN only"):
        _read(hearts, tmp_path, probability=np.full_like(p, np.nan))


def test_what_does_not_fit_is_named(hearts: DatasetSpec, tmp_path: Path) -> None:
    p, affine, _ = _sure(hearts.train[0], hearts)
    name = f"{hearts.train[0]['case']}.npz"
    moved = affine.copy()
    moved[0, 3] += 3
    channels = np.zeros((31, *p.shape[1:]), np.float32)
    channels[[0, 10, 20, 30]] = p
    for content, message in (
        ({"a": p[:, :-1]}, f"{name}: has the shape .* predict on the images"),
        ({"a": p.transpose(0, 3, 2, 1)}, "its axes are reversed"),
        ({"softmax": channels.transpose(0, 3, 2, 1)[:, 1:]}, "version 1 crops"),
        ({"a": p[:3]}, "has 3 channels, the audit needs 4: background, wall, cavity, bar"),
        ({"a": 3 * p - 1}, "apply softmax or sigmoid to logits"),
        ({"a": p / 2}, "add up to 1 only within 0.5"),
        ({"probability": p, "affine": moved}, "lies up to 3 mm beside"),
        ({"a": p, "b": p}, "it holds the arrays"),
    ):
        with pytest.raises(ValueError, match=message):
            _read(hearts, tmp_path, **content)


def test_no_pickle_is_opened(hearts: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        _read(hearts, tmp_path, a=np.array([{"code": 1}], dtype=object))


def test_files_that_are_not_there(hearts: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        ProbabilityFolder(tmp_path / "none", hearts)
    (tmp_path / "p").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither \.npz nor NIfTI"):
        ProbabilityFolder(tmp_path / "p", hearts)
    item = hearts.train[0]
    case = item["case"]
    write_volume(tmp_path / "p" / "other.nii.gz", np.zeros((2, 2, 2)))
    with pytest.raises(FileNotFoundError, match=f"one file {case} with the ending .* there is none"):
        ProbabilityFolder(tmp_path / "p", hearts).path_of(item)
    for part in ("a", "b"):
        write_volume(tmp_path / "p" / part / f"{case}.nii.gz", np.zeros((2, 2, 2)))
    with pytest.raises(FileNotFoundError, match="there are 2"):
        ProbabilityFolder(tmp_path / "p", hearts).path_of(item)


def test_one_structure_needs_one_channel(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "data")
    spec = load_dataset(made, tmp_path / "data", classes=["bar"])
    item = spec.train[0]
    label = read_case_label(item, spec)
    volume = nibabel.load(paths_of(item["label"])[0])
    bar = (np.asarray(volume.dataobj) == 30).astype(np.float32) * 0.75
    (tmp_path / "p").mkdir()
    np.savez(tmp_path / "p" / f"{item['case']}.npz", bar)
    p = ProbabilityFolder(tmp_path / "p", spec).read(item, label)
    np.testing.assert_array_equal(p, np.stack([1 - label.masks[0] * 0.75, label.masks[0] * 0.75]).astype(np.float32))
