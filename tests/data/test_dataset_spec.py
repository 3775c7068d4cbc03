"""Datasets ready for training: items, slices, classes, and every shipped layout on small files."""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import (
    ct_pair,
    isic2017,
    manifest,
    mask,
    photograph,
    real_data,
    shenzhen,
    write_ct_dataset,
    write_picture,
    write_volume,
)
from endoscopy_datasets import endovis18, riga

from monai_noisylabel.data import dataset_spec
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset
from monai_noisylabel.data.manifest import load_manifest


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four good cases c0 .. c3."""
    return write_ct_dataset(tmp_path / "data")


def counts(spec: DatasetSpec) -> tuple[int, int, int]:
    """Items per split."""
    return len(spec.train), len(spec.val), len(spec.test)


def all_items(spec: DatasetSpec) -> list[dict[str, object]]:
    """Items of the three splits."""
    return [*spec.train, *spec.val, *spec.test]


def test_volumes(root: Path) -> None:
    spec = load_dataset(manifest(), root)
    assert counts(spec) == (2, 1, 1)
    assert spec.train[1] == {
        "image": str(root / "images/c1.nii.gz"),
        "label": str(root / "labels/c1.nii.gz"),
        "case": "c1",
        "patient": "c1",
    }
    assert (spec.num_classes, spec.multi_label, spec.in_channels, spec.spatial_dims) == (3, False, 1, 3)
    assert spec.label_values == {"liver": (1,), "tumour": (2,)}
    assert spec.left_out == []


def test_labelled_slices_of_volumes(root: Path) -> None:
    made = manifest(spatial_dims=2, preprocessing={"normalise": "zscore", "slices": "labelled"})
    spec = load_dataset(made, root)
    assert counts(spec) == (4, 2, 2)  # slices 1 and 2 of each
    assert spec.train[1] == {
        "image": str(root / "images/c0.nii.gz"),
        "label": str(root / "labels/c0.nii.gz"),
        "case": "c0/002",
        "patient": "c0",
        "slice": 2,
        "volume": "c0",
    }
    only_tumour = load_dataset(made, root, classes=["tumour"])
    assert [item["case"] for item in only_tumour.train] == ["c0/002", "c1/002"]
    assert only_tumour.num_classes == 2


def test_all_slices_of_volumes_along_the_last_axis_after_orientation(root: Path) -> None:
    image, label = ct_pair((5, 4, 7))
    sagittal = np.array([[0, 0, 2.0, 0], [2.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])  # axes A, S, R
    write_volume(root / "images/c2.nii.gz", image, sagittal)
    write_volume(root / "labels/c2.nii.gz", label, sagittal)
    spec = load_dataset(manifest(), root, spatial_dims=2)
    assert counts(spec) == (8, 4, 4)
    assert [item["slice"] for item in spec.val] == [0, 1, 2, 3]
    kept = load_dataset(manifest(preprocessing={"normalise": "zscore", "orientation": None}), root, spatial_dims=2)
    assert [item["slice"] for item in kept.val] == list(range(7))


def test_slices_that_the_manifest_names(root: Path) -> None:
    named = {"c0": [3, 0, 3], "c1": []}
    made = manifest(spatial_dims=2, preprocessing={"normalise": "zscore", "slices": named})
    spec = load_dataset(made, root)
    assert [item["case"] for item in spec.train] == ["c0/000", "c0/003"]
    assert [item["case"] for item in spec.val] == ["c2/001", "c2/002"]  # not named: those with a label
    made = manifest(spatial_dims=2, preprocessing={"normalise": "zscore", "slices": {"c1": [1, 4]}})
    with pytest.raises(ValueError, match=r"slices of case 'c1' names \[4\], but its volume has the slices 0 to 3"):
        load_dataset(made, root)


def test_slices_are_ordered_by_number(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(4, 4, 1002)).astype(np.float32)
    label = np.ones(image.shape, np.uint8)
    for number in range(3):
        write_volume(tmp_path / f"d/images/c{number}.nii.gz", image)
        write_volume(tmp_path / f"d/labels/c{number}.nii.gz", label)
    spec = load_dataset(manifest(splits={"val": {"count": 1}, "test": {"count": 1}}), tmp_path / "d", spatial_dims=2)
    assert [item["case"].split("/")[1] for item in spec.val[998:]] == ["998", "999", "1000", "1001"]


def test_bad_cases_are_left_out_with_one_readable_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "images/c1.nii.gz").write_bytes(b"")
    write_volume(root / "labels/c0.nii.gz", np.zeros((8, 6, 4), np.uint8))
    with caplog.at_level(logging.WARNING):
        spec = load_dataset(manifest(), root)
    assert [item["case"] for item in spec.train] == ["c0"]
    assert [(problem.case, problem.kind) for problem in spec.left_out] == [("c1", "unreadable")]
    assert [(problem.case, problem.kind) for problem in spec.notes] == [("c0", "empty label")]
    assert len(caplog.records) == 1
    assert "left out: c1: unreadable" in caplog.text
    assert "note: c0: empty label" in caplog.text


def test_a_long_list_of_problems_is_cut() -> None:
    spec_of = dataset_spec._listed("left out", [_problem(n) for n in range(25)])
    assert len(spec_of) == 21
    assert spec_of[-1] == "  left out: 5 more; `noisylabel data check` lists all"


def _problem(number: int) -> dataset_spec.Problem:
    return dataset_spec.Problem(f"c{number}", "", "constant image", "every intensity is 0")


def test_an_empty_split_is_an_error_that_says_why(root: Path) -> None:
    (root / "images/c3.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"nothing to use for test(.|\n)*c3: unreadable"):
        load_dataset(manifest(), root)


def test_only_cases_in_use_are_read(root: Path) -> None:
    image, label = ct_pair()
    write_volume(root / "images/c9.nii.gz", image)
    write_volume(root / "labels/c9.nii.gz", label + 50)
    assert load_dataset(manifest(), root).left_out == []


def test_damaged_training_files_of_a_former_run_are_not_forgotten(root: Path) -> None:
    write_volume(root / "labels/c0.nii.gz", ct_pair()[1] + 50)
    first = load_dataset(manifest(), root)
    assert load_dataset(manifest(), root).left_out == first.left_out != []


def test_classes_in_the_order_of_the_manifest(root: Path) -> None:
    assert load_dataset(manifest(), root, classes=["tumour", "liver"]).classes == ("liver", "tumour")
    for wrong in (["kidney"], [], "liver"):
        with pytest.raises(ValueError, match=r"give a list of one or more of \['liver', 'tumour'\]"):
            load_dataset(manifest(), root, classes=wrong)


def test_sizes_and_dimensions(root: Path) -> None:
    flat = manifest(preprocessing={"normalise": "zscore", "size": [16, 12]}, spatial_dims=2)
    assert load_dataset(flat, root).manifest.preprocessing.size == [16, 12]
    with pytest.raises(ValueError, match=r"preprocessing\.size \[16, 12\] has 2 numbers, a 3D run needs three"):
        load_dataset(flat, root, spatial_dims=3)
    assert load_dataset(flat, root, spatial_dims=3, size=(16, 12, 4)).manifest.preprocessing.size == [
        16,
        12,
        4,
    ]
    with pytest.raises(ValueError, match=r"preprocessing\.size"):
        load_dataset(flat, root, size=(0, 4))
    with pytest.raises(ValueError, match="spatial_dims is 2 or 3, got 4"):
        load_dataset(flat, root, spatial_dims=4)


def test_a_missing_folder_says_where_the_dataset_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'made_up' needs dataset_dir.*the shelf in the reading room"):
        load_dataset(manifest())
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist.*Obtain the dataset: .*zenodo"):
        load_dataset("jsrt", tmp_path / "nowhere")


def test_the_phantom_is_generated_when_no_folder_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_spec, "cached_phantom", lambda: root)
    spec = load_dataset("phantom_hcc", spatial_dims=3)
    assert spec.dataset_dir == root
    assert spec.classes == ("liver", "tumour")
    assert counts(spec) == (2, 1, 1)
    assert counts(load_dataset("phantom_hcc", spatial_dims=2)) == (4, 2, 2)


def test_relative_folders_give_absolute_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert load_dataset(manifest(), "data").train[0]["image"] == str(root / "images/c0.nii.gz")


def test_a_description(root: Path) -> None:
    made = manifest(
        preprocessing={"normalise": "zscore", "slices": "labelled"},
        patient="(c)\\d",
        splits={
            "train": {"cases": ["c0", "c1", "c2", "c3"]},
            "val": {"cases": ["c8"]},
            "test": {"cases": ["c9"]},
        },
    )
    with pytest.raises(ValueError, match="nothing to use for val, test"):
        load_dataset(made, root)
    text = load_dataset(manifest(), root, spatial_dims=2).describe()
    assert text.splitlines() == [
        f"made_up (CT, 2D, multi-class: liver, tumour) in {root}",
        "  train: 8 slices of 2 cases of 2 patients",
        "  val: 4 slices of 1 cases of 1 patients",
        "  test: 4 slices of 1 cases of 1 patients",
    ]


def test_worker_processes_get_the_same_dataset(root: Path) -> None:
    spec = load_dataset(manifest(), root)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_case_ids_from_paths(root: Path) -> None:
    spec = load_dataset(manifest(), root)
    assert all(spec.case_of(item["image"]) == item["case"] for item in all_items(spec))
    assert spec.case_of("/elsewhere/spleen_10.nii.gz") == "spleen_10"


# ---- the layouts in which public datasets come -------------------------------------------------------------


def hcc(root: Path) -> None:
    """Five CT volumes with a tumour."""
    image, label = ct_pair()
    for number in range(5):
        write_volume(root / f"images/hcc_{number}.nii.gz", image)
        write_volume(root / f"labels/hcc_{number}.nii.gz", (label == 2).astype(np.uint8))


def acdc(root: Path) -> None:
    """Patients at the borders of the splits, two phases each."""
    image, label = ct_pair()
    for patient in ("patient001", "patient064", "patient065", "patient082", "patient083", "patient100"):
        for frame in ("frame01", "frame12"):
            write_volume(root / f"images/{patient}_{frame}.nii.gz", image)
            write_volume(root / f"labels/{patient}_{frame}.nii.gz", label + (label == 2))


def jsrt(root: Path) -> None:
    """45 radiographs for training and 2 for testing, three masks each."""
    names = [("training", f"JPCLN{n:03d}") for n in range(45)] + [
        ("validation", "JPCNN001"),
        ("validation", "JPCNN002"),
    ]
    for part, name in names:
        write_picture(root / part / "images" / f"{name}.png", photograph()[..., 0])
        for organ in ("lung", "heart", "clavicle"):
            write_picture(root / part / organ / f"{name}.png", mask())


def hippocampus(root: Path) -> None:
    """260 pairs would be slow to write; the rule is tested by the real data, a shortened one here."""
    write_ct_dataset(root, 4)


LAYOUTS: list[tuple[Callable[[Path], None], tuple[int, int, int], int, str]] = [
    # 5 patients: a fifth each for validation and test. One tumour slice per volume.
    (hcc, (3, 1, 1), 2, "multi_class"),
    # two labelled slices of 2 patients x 2 phases in every split
    (acdc, (8, 8, 8), 4, "multi_class"),
    (isic2017, (2, 1, 1), 2, "multi_class"),
    (jsrt, (5, 40, 2), 3, "multi_label"),
    # 10 with mask: a tenth for validation, a fifth for testing
    (shenzhen, (7, 1, 2), 1, "multi_label"),
    # sequences 2, 5, 9 and 15 are for testing, two of the other four for validation
    (endovis18, (4, 4, 8), 4, "multi_class"),
    # Magrabia's 3 for testing, a tenth of the other 6 for validation
    (riga, (5, 1, 3), 2, "multi_label"),
]


@pytest.mark.parametrize(
    ("write", "expected", "num_classes", "task"), LAYOUTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_public_layouts(
    tmp_path: Path, write: Callable[[Path], None], expected: tuple[int, int, int], num_classes: int, task: str
) -> None:
    write(tmp_path / "d")
    spec = load_dataset(write.__name__, tmp_path / "d")
    assert counts(spec) == expected
    assert spec.num_classes == num_classes
    assert spec.manifest.task == task
    assert spec.notes == []
    ids = [item["case"] for item in all_items(spec)]
    assert len(set(ids)) == len(ids)
    assert all(spec.case_of(item["image"]) == item.get("volume", item["case"]) for item in all_items(spec))
    split_of = {item["patient"]: split for split in ("train", "val", "test") for item in getattr(spec, split)}
    for split in ("train", "val", "test"):
        assert {split_of[item["patient"]] for item in getattr(spec, split)} == {split}


def test_jsrt_splits_and_subset(tmp_path: Path) -> None:
    jsrt(tmp_path / "d")
    spec = load_dataset("jsrt", tmp_path / "d")
    assert {item["case"] for item in spec.test} == {"JPCNN001", "JPCNN002"}
    assert [Path(path).parent.name for path in spec.train[0]["label"]] == ["lung", "heart", "clavicle"]
    heart = load_dataset("jsrt", tmp_path / "d", classes=["heart"])
    assert [Path(path).parent.name for path in heart.train[0]["label"]] == ["heart"]
    assert (heart.num_classes, heart.multi_label) == (1, True)
    assert [item["case"] for item in heart.val] == [item["case"] for item in spec.val]


def test_shenzhen_images_without_mask_are_left_out(tmp_path: Path) -> None:
    shenzhen(tmp_path / "d")
    left_out = load_dataset("shenzhen", tmp_path / "d").left_out
    assert [(problem.case, problem.kind) for problem in left_out] == [
        ("CHNCXR_0001_1", "image without label"),
        ("CHNCXR_0002_0", "image without label"),
    ]


def test_endovis_sequences_and_colours(tmp_path: Path) -> None:
    endovis18(tmp_path / "d")
    spec = load_dataset("endovis18", tmp_path / "d")
    assert {item["patient"] for item in spec.test} == {"seq_2", "seq_5", "seq_9", "seq_15"}
    assert spec.label_values["wrist"] == (125 * 65536 + 255 * 256 + 12,)
    assert {problem.case for problem in spec.left_out} == set()
    unknown = np.zeros((6, 8, 3), np.uint8)
    unknown[0, 0] = (1, 2, 3)
    write_picture(tmp_path / "d/seq_1/labels/frame000.png", unknown)
    left_out = load_dataset("endovis18", tmp_path / "d").left_out
    assert [(problem.case, problem.kind) for problem in left_out] == [("seq_1_frame000", "label values")]
    assert "#010203" in left_out[0].message


def test_riga_takes_the_first_rater(tmp_path: Path) -> None:
    riga(tmp_path / "d")
    spec = load_dataset("riga", tmp_path / "d")
    assert all(str(item["label"]).endswith("-1.png") for item in all_items(spec))
    assert {str(item["case"]).split("_")[0] for item in spec.test} == {"MagrabiaMale"}
    assert spec.label_values == {"optic disc": (128, 255), "optic cup": (255,)}


def test_hippocampus_rule_takes_the_sorted_names(tmp_path: Path) -> None:
    hippocampus(tmp_path / "d")
    made = load_manifest("hippocampus").model_dump()
    for split, number in (("train", 2), ("val", 1), ("test", 1)):
        made["splits"][split]["count"] = number
    spec = load_dataset(manifest(**made), tmp_path / "d")
    assert [item["case"] for item in all_items(spec)] == ["c0", "c1", "c2", "c3"]


# ---- real data ---------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_real_hippocampus() -> None:
    spec = load_dataset("hippocampus", real_data("hippocampus"))
    assert counts(spec) == (180, 40, 40)
    names = [item["case"] for item in all_items(spec)]
    assert names == sorted(names)
    assert Counter(problem.kind for problem in spec.left_out) == {
        "image without label": 1,
        "label without image": 2,
    }
    assert {problem.case for problem in spec.left_out} == {f"hippocampus_{n}" for n in ("010", "118", "281")}


@pytest.mark.realdata
def test_real_jsrt() -> None:
    spec = load_dataset("jsrt", real_data("jsrt"))
    assert counts(spec) == (157, 40, 50)
    assert spec.left_out == spec.notes == []


@pytest.mark.realdata
def test_real_acdc() -> None:
    spec = load_dataset("acdc", real_data("acdc"))
    volumes = [len({item["volume"] for item in items}) for items in (spec.train, spec.val, spec.test)]
    assert volumes == [128, 36, 36]
    assert counts(spec) == (1147, 321, 373)
    assert spec.left_out == spec.notes == []
