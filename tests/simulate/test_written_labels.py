"""What a simulation writes: label files in the form of the originals, records, a dataset to train on."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dataset_files import manifest, write_picture
from PIL import Image
from simulated import SPLITS, digests, read_records, write_hearts, write_pictures

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.corruption import NoiseRecord
from monai_noisylabel.data import load_dataset, load_manifest
from monai_noisylabel.masks import to_masks
from monai_noisylabel.simulate import simulate_dataset

BOUNDARY = {"model": "boundary", "beta": 4, "alpha": 1.0}
MIXED = {"alpha": 0.7, "models": [{"model": "boundary", "beta": 4}, "missing", {"model": "relative_boundary"}]}
IN_MM = {"model": "boundary", "beta": 4, "unit": "mm", "alpha": 1.0}
SYSTEMATIC = {**MIXED, "alpha": 0.8, "share_of": "patient", "annotators": 2}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; tests/simulate/test_contact_sheet.py looks at it."""
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)


def test_nifti_keeps_header_affine_type_and_values(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "data")
    before = digests(tmp_path / "data")
    report = simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    assert report.written == ["h0", "h1", "h2"]
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["h0.nii", "h1.nii", "h2.nii"]
    for name in report.written:
        original, noisy = (nibabel.load(tmp_path / part / f"labels/{name}.nii") for part in ("data", "out"))
        assert noisy.header == original.header
        np.testing.assert_array_equal(noisy.affine, original.affine)
        assert noisy.get_data_dtype() == np.int16
        old, new = np.asarray(original.dataobj), np.asarray(noisy.dataobj)
        assert set(np.unique(new)) == {0, 10, 20, 21, 30}  # 21, one of two values of a class, stays where it was
        assert not np.array_equal(old, new)
        assert not ((new == 21) & (old != 21)).any()
    assert digests(tmp_path / "data") == before


def test_pictures_keep_format_and_marks(tmp_path: Path) -> None:
    made = write_pictures(tmp_path / "data")
    before = digests(tmp_path / "data")
    simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    for name, mark in (("large/p1.png", 255), ("small/p1.bmp", 1)):
        with Image.open(tmp_path / "out" / name) as noisy, Image.open(tmp_path / "data" / name) as original:
            assert (noisy.format, noisy.mode, noisy.size) == (original.format, original.mode, original.size)
            assert set(np.unique(np.asarray(noisy))) == {0, mark}
            assert not np.array_equal(np.asarray(noisy), np.asarray(original))
    assert digests(tmp_path / "data") == before


def simulate_pictures(folder: Path) -> None:
    """From the pictures in folder/data into folder/out."""
    layout = {"image": "images/{case}.png", "label": "labels/{case}.png"}
    made = manifest(
        spatial_dims=2, classes={"lesion": 2}, layout=layout, splits=SPLITS, preprocessing={"normalise": "zscore"}
    )
    simulate_dataset(made, folder / "data", BOUNDARY, folder / "out")


def test_16_bit_pictures_stay_16_bit(tmp_path: Path) -> None:
    pixels = np.zeros((30, 30), np.uint16)
    pixels[8:20, 8:20] = 2
    for number in range(5):
        write_picture(tmp_path / f"data/images/p{number}.png", pixels)
        write_picture(tmp_path / f"data/labels/p{number}.png", pixels)
    simulate_pictures(tmp_path)
    with Image.open(tmp_path / "out/labels/p0.png") as noisy:
        assert noisy.mode == "I;16"
        assert set(np.unique(np.asarray(noisy))) == {0, 2}


def test_a_palette_stays(tmp_path: Path) -> None:
    pixels = np.zeros((30, 30), np.uint8)
    pixels[8:20, 8:20] = 2
    for number in range(5):
        write_picture(tmp_path / f"data/images/p{number}.png", pixels)
        picture = Image.fromarray(pixels, mode="P")
        picture.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
        (tmp_path / "data/labels").mkdir(exist_ok=True)
        picture.save(tmp_path / f"data/labels/p{number}.png")
    simulate_pictures(tmp_path)
    with Image.open(tmp_path / "out/labels/p0.png") as noisy:
        assert noisy.mode == "P"
        assert noisy.getpalette()[:9] == [0, 0, 0, 9, 9, 9, 200, 0, 0]
        assert set(np.unique(np.asarray(noisy))) == {0, 2}


def test_what_cannot_be_written_without_loss_becomes_png(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:24, 8:24] = 255
    for number in range(5):
        write_picture(tmp_path / f"data/images/p{number}.png", pixels)
        write_picture(tmp_path / f"data/labels/p{number}.jpg", pixels)
    made = manifest(
        spatial_dims=2,
        classes={"lesion": None},
        layout={"image": "images/{case}.png", "label": "labels/{case}.jpg"},
        splits=SPLITS,
        preprocessing={"normalise": "zscore"},
    )
    report = simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out", with_images=True)
    assert report.failed == {}
    assert (tmp_path / "out/labels/p0.png").exists()
    assert load_manifest(tmp_path / "out/manifest.json").layout.label == "labels/{case}.png"


def test_two_structures_in_one_file(tmp_path: Path) -> None:
    """Optic disc (128 and 255) and cup (255): what is recorded is what the file says, also of cups beyond discs."""
    rows, columns = np.indices((48, 48))
    radius = np.hypot(rows - 24, columns - 24)
    for number in range(5):
        write_picture(tmp_path / f"data/images/p{number}.png", (rows + columns).astype(np.uint8))
        pixels = np.where(radius < 12, 128, 0).astype(np.uint8)
        pixels[radius < 9] = 255
        write_picture(tmp_path / f"data/labels/p{number}.png", pixels)
    made = manifest(
        spatial_dims=2,
        task="multi_label",
        classes={"disc": [128, 255], "cup": 255},
        layout={"image": "images/{case}.png", "label": "labels/{case}.png"},
        splits=SPLITS,
        preprocessing={"normalise": "zscore"},
    )
    simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out", seed=3)
    clean, beyond = np.stack([radius < 12, radius < 9]), 0
    for line in read_records(tmp_path / "out"):
        with Image.open(tmp_path / "out" / f"labels/{line['case']}.png") as picture:
            pixels = np.asarray(picture)
        noisy = np.stack([pixels >= 128, pixels == 255])
        assert set(np.unique(pixels)) <= {0, 128, 255}
        expected = NoiseRecord.measured(line["case"], "boundary", line["parameters"], clean, noisy)
        assert line["dice"] == expected.dice
        shifts = [line["parameters"][number]["shift"] for number in "12"]
        beyond += shifts[1] - 3 > shifts[0]
        # The disc reaches as far as it is drawn, or as far as a cup that has grown beyond it.
        assert noisy[0].sum() == pytest.approx(np.pi * (12 + max(shifts[0], shifts[1] - 3)) ** 2, rel=0.15)
    assert beyond == 3


def test_records_say_what_was_drawn_and_achieved(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "data")
    simulate_dataset(made, tmp_path / "data", SYSTEMATIC, tmp_path / "out", seed=4)
    spec = load_dataset(made, tmp_path / "data")
    for line, item in zip(read_records(tmp_path / "out"), spec.train, strict=True):
        given, noisy = (
            np.asarray(nibabel.load(tmp_path / part / "labels" / f"{item['case']}.nii").dataobj)
            for part in ("data", "out")
        )
        classes = [np.select([values == 10, values >= 30, values >= 20], [1, 3, 2], 0) for values in (given, noisy)]
        masks = [to_masks(values[None], 4) for values in classes]
        spacing = np.linalg.norm(nibabel.load(item["image"]).affine[:3, :3], axis=0)
        measured = NoiseRecord.measured(item["case"], line["model"], line["parameters"], *masks, spacing=spacing)
        assert line["surface_distance"] == pytest.approx(measured.surface_distance)
        for key in ("dice", "volume_ratio", "taxonomy"):
            assert line[key] == dict(getattr(measured, key))
        assert (line["patient"], line["volume"], line["unit"]) == (item["patient"], item["case"], "mm")
        assert line["annotator"] in (1, 2)
        table = np.array([[((classes[0] == i) & (classes[1] == j)).sum() for j in range(4)] for i in range(4)])
        np.testing.assert_array_equal(line["voxels"], table)


def test_summary_and_recipe_on_disk(phantom: Path, tmp_path: Path) -> None:
    report = simulate_dataset("phantom_hcc", phantom, MIXED, tmp_path / "out", seed=6)
    lines = read_records(tmp_path / "out")
    assert [line["case"] for line in lines] == [item["case"] for item in load_dataset("phantom_hcc", phantom).train]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary == {**report.summary, "failed": {}}
    assert summary["cases"] == len(lines)
    assert summary["noisy_cases"] == sum(min(line["dice"].values()) < 1 for line in lines)
    described = json.loads((tmp_path / "out/recipe.json").read_text())
    assert described["seed"] == 6
    assert described["recipe"]["alpha"] == 0.7
    assert [entry["model"] for entry in described["recipe"]["models"]] == ["boundary", "missing", "relative_boundary"]


def test_all_splits(phantom: Path, tmp_path: Path) -> None:
    report = simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", split="all", spatial_dims=3)
    assert sorted(report.written) == [f"liver_00{number}" for number in range(5)]


def test_without_noise_the_labels_are_the_given_ones(phantom: Path, tmp_path: Path) -> None:
    report = simulate_dataset("phantom_hcc", phantom, "none", tmp_path / "out")
    assert report.summary["noisy_cases"] == report.summary["voxel_noise_rate"] == 0
    for path in (tmp_path / "out/labels").iterdir():
        given, written = (
            np.asarray(nibabel.load(folder / path.name).dataobj)
            for folder in (phantom / "labels", tmp_path / "out/labels")
        )
        np.testing.assert_array_equal(given, written)


def test_images_and_other_labels_are_copied(phantom: Path, tmp_path: Path) -> None:
    report = simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", with_images=True)
    assert report.copied == 5 + 2  # five images, the labels of one validation and one test case
    given, made = load_dataset("phantom_hcc", phantom), load_dataset(tmp_path / "out/manifest.json", tmp_path / "out")
    for split in ("train", "val", "test"):
        volumes = [{item["volume"] for item in getattr(spec, split)} for spec in (given, made)]
        assert volumes[0] == volumes[1]
    original, copied = digests(phantom), digests(tmp_path / "out")
    untouched = {item["volume"] for item in (*given.val, *given.test)}
    for name, digest in original.items():
        if name.startswith("images") or Path(name).name.split(".")[0] in untouched:
            assert copied[name] == digest
    again = simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", with_images=True)
    assert again.copied == 0
    assert digests(tmp_path / "out") == copied


@pytest.mark.parametrize("recipe", [{"model": "missing", "alpha": 1.0}, {"model": "spurious", "alpha": 1.0}])
def test_a_training_takes_the_same_slices(phantom: Path, tmp_path: Path, recipe: dict) -> None:
    """Those whose annotation was removed stay, those that got one do not join; other splits are what they were."""
    simulate_dataset("phantom_hcc", phantom, recipe, tmp_path / "out", with_images=True)
    made = load_manifest(tmp_path / "out/manifest.json")
    given, taken = load_dataset("phantom_hcc", phantom), load_dataset(made, tmp_path / "out")
    for split in ("train", "val", "test"):
        cases = [[(item["case"], item["slice"]) for item in getattr(spec, split)] for spec in (given, taken)]
        assert cases[0] == cases[1]
    simulate_dataset("phantom_hcc", phantom, recipe, tmp_path / "volumes", spatial_dims=3)
    assert load_manifest(tmp_path / "volumes/manifest.json").preprocessing.slices == "all"
