"""Reviewed labels as a dataset of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reviewed_hearts import forget, values_of
from simulated import digests, write_hearts, write_pictures
from typer.testing import CliRunner

from monai_noisylabel.cli import app
from monai_noisylabel.data import load_dataset
from monai_noisylabel.data.originals import OriginalChangedError
from monai_noisylabel.label_app import Review, export_reviewed, prepare_workspace


@pytest.fixture
def review(hearts: Path) -> Review:
    made = Review(prepare_workspace(hearts / "data.json", hearts / "data", hearts / "studies", audit=hearts / "audit"))
    made.submit("h3", made.workspace.label("h3", "cleansed"), None, "ann", "clear")
    made.submit("h2", made.workspace.label("h2", "original"), None, "bob")
    made.skip("h5", "bob")
    return made


def test_the_export_is_a_dataset_to_train_on(review: Review, hearts: Path) -> None:
    before = digests(hearts / "data"), digests(hearts / "studies")
    report = export_reviewed(hearts / "studies", hearts / "out")
    assert (sorted(report.reviewed), sorted(report.given)) == (["h2", "h3"], ["h0", "h1", "h4", "h5", "h6"])
    assert (report.failed, report.copied) == ({}, 7)
    spec = load_dataset(hearts / "out/manifest.json", hearts / "out")
    given = load_dataset(hearts / "data.json", hearts / "data")
    for split in ("train", "val", "test"):
        assert [i["case"] for i in getattr(spec, split)] == [i["case"] for i in getattr(given, split)]
    assert (spec.manifest.name, spec.left_out, spec.notes) == ("made_up_reviewed", [], [])
    for number in range(7):
        assert (hearts / f"out/images/h{number}.nii.gz").read_bytes() == (
            hearts / f"data/images/h{number}.nii.gz"
        ).read_bytes()
        same = (hearts / f"out/labels/h{number}.nii").read_bytes() == (
            hearts / f"data/labels/h{number}.nii"
        ).read_bytes()
        assert same == (number != 3)
    assert (values_of(hearts / "out/labels/h3.nii") == 30).sum() == 60
    result = CliRunner().invoke(
        app, ["data", "check", str(hearts / "out/manifest.json"), "--dataset_dir", str(hearts / "out")]
    )
    assert result.exit_code == 0, result.output
    assert (digests(hearts / "data"), digests(hearts / "studies")) == before


def test_the_export_says_who_decided_what_and_when(review: Review, hearts: Path) -> None:
    export_reviewed(hearts / "studies", hearts / "out")
    with (hearts / "out/review.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = [(row["case"], row["decision"], row["user"], row["note"]) for row in rows]
    assert found == [("h2", "kept original", "bob", ""), ("h3", "accepted proposal", "ann", "clear")]
    assert [row["time"] for row in rows] == [review.decisions()[case].time for case in ("h2", "h3")]


def test_a_later_export_brings_it_up_to_date(review: Review, hearts: Path) -> None:
    export_reviewed(hearts / "studies", hearts / "out")
    review.submit("h5", review.workspace.label("h5", "cleansed"), None, "ann")
    review.withdraw("h3", "ann")
    report = export_reviewed(hearts / "studies", hearts / "out")
    assert (sorted(report.reviewed), report.copied) == (["h2", "h5"], 0)
    assert (values_of(hearts / "out/labels/h5.nii") == 10).sum() > 0
    assert (hearts / "out/labels/h3.nii").read_bytes() == (hearts / "data/labels/h3.nii").read_bytes()


def test_a_reviewed_label_that_has_changed_is_left_out_by_name(review: Review, hearts: Path) -> None:
    (review.workspace.reviewed / "labels/h3.nii").write_bytes((hearts / "data/labels/h3.nii").read_bytes())
    report = export_reviewed(hearts / "studies", hearts / "out")
    assert list(report.failed) == ["h3"]
    assert "not what ann handed in" in report.failed["h3"]
    assert not (hearts / "out/labels/h3.nii").exists()
    assert sorted(report.reviewed) == ["h2"]


def test_given_labels_that_have_changed_are_noticed(review: Review, hearts: Path) -> None:
    forget(hearts / "data/labels/h4.nii", 20)
    with pytest.raises(OriginalChangedError, match=r"h4\.nii has changed"):
        export_reviewed(hearts / "studies", hearts / "out")


def test_folders_that_must_stay_untouched(review: Review, hearts: Path) -> None:
    before = digests(hearts)
    for out, kind, message in (
        (hearts / "data/out", ValueError, "lie in each other"),
        (hearts / "studies/out", ValueError, "lie in each other"),
        (hearts / "p", FileExistsError, "holds something else than an export"),
    ):
        with pytest.raises(kind, match=message):
            export_reviewed(hearts / "studies", out)
    assert digests(hearts) == before


def test_a_structure_that_was_not_reviewed_is_exported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    manifest = write_pictures(tmp_path / "data")
    review = Review(prepare_workspace(manifest, tmp_path / "data", tmp_path / "studies", classes=["small"]))
    drawn = np.asarray(Image.open(review.workspace.label("p1", "original"))).copy()
    drawn[0, 0] = 1
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    assert review.submit("p1", tmp_path / "drawn.png", None, "ann").decision == "edited"
    export_reviewed(tmp_path / "studies", tmp_path / "out")
    spec = load_dataset(tmp_path / "out/manifest.json", tmp_path / "out")
    assert spec.classes == ("large", "small")
    assert (tmp_path / "out/large/p1.png").read_bytes() == (tmp_path / "data/large/p1.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "out/small/p1.bmp"))
    changed = pixels != np.asarray(Image.open(tmp_path / "data/small/p1.bmp"))
    assert changed.sum() == 1
    assert changed[0, 0]


def test_labels_whose_format_loses_values_are_written_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    manifest = write_pictures(tmp_path / "data")
    content = manifest.model_dump(mode="json", exclude_defaults=True)
    content["layout"]["label"]["large"] = "large/{case}.jpg"
    for path in (tmp_path / "data/large").iterdir():
        Image.fromarray(np.asarray(Image.open(path))).save(path.with_suffix(".jpg"), quality=100)
        path.unlink()
    (tmp_path / "data.json").write_text(json.dumps(content))
    review = Review(prepare_workspace(tmp_path / "data.json", tmp_path / "data", tmp_path / "studies"))
    review.submit("p1", review.workspace.label("p1", "original"), None, "ann")
    report = export_reviewed(tmp_path / "studies", tmp_path / "out")
    assert (report.reviewed, len(report.given), report.failed) == (["p1"], 4, {})
    spec = load_dataset(tmp_path / "out/manifest.json", tmp_path / "out")
    assert [len(spec.items_of(split)) for split in ("train", "all")] == [3, 5]
    assert all(path.suffix == ".png" for path in (tmp_path / "out/large").iterdir())


def test_slices_that_a_review_has_labelled_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    content = write_hearts(tmp_path / "data").model_dump(mode="json", exclude_defaults=True)
    content["preprocessing"]["slices"] = "labelled"
    content["spatial_dims"] = 2
    (tmp_path / "data.json").write_text(json.dumps(content))
    review = Review(prepare_workspace(tmp_path / "data.json", tmp_path / "data", tmp_path / "studies"))
    case = next(iter(review.workspace.items))
    label = review.workspace.given(case)
    empty = [n for n in range(label.masks.shape[-1]) if not label.masks[..., n].any()]
    assert empty
    export_reviewed(tmp_path / "studies", tmp_path / "out")
    assert json.loads((tmp_path / "out/manifest.json").read_text())["preprocessing"]["slices"] == "labelled"
