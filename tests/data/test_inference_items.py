"""Which images a trained network is run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_noisylabel.data import describe_dataset, inference_items


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_manifest_alone_tells_channels_and_classes() -> None:
    spec = describe_dataset("jsrt", classes=["lung"], size=[128, 128])
    assert (spec.num_classes, spec.multi_label, spec.in_channels, spec.spatial_dims) == (1, True, 1, 2)
    assert list(spec.manifest.preprocessing.size or []) == [128, 128]
    assert (spec.train, spec.val, spec.test) == ([], [], [])


def test_a_folder_in_the_manifests_layout_needs_no_labels(tmp_path: Path) -> None:
    root = touch(tmp_path, "images/b.nii.gz", "images/a.nii.gz", "notes.txt")
    items = inference_items(describe_dataset("acdc"), root)
    assert [item["case"] for item in items] == ["a", "b"]
    assert items[0]["image"] == str(root / "images" / "a.nii.gz")


@pytest.mark.parametrize("several", [False, True])
def test_images_may_be_named_one_by_one(tmp_path: Path, several: bool) -> None:
    touch(tmp_path, "scan.nii.gz")
    path = str(tmp_path / "scan.nii.gz")
    items = inference_items(describe_dataset("acdc"), images=[path] if several else path)
    assert items == [{"image": path, "case": "scan"}]


def test_images_of_one_name_would_overwrite_each_others_labels(tmp_path: Path) -> None:
    touch(tmp_path, "p1/scan.nii.gz", "p2/scan.nii.gz", "p2/other.nii.gz")
    images = sorted(tmp_path.rglob("*.nii.gz"))
    with pytest.raises(ValueError, match=r"2 images are called scan\.nii\.gz, .* or give their --dataset_dir"):
        inference_items(describe_dataset("acdc"), images=images)
    assert len(inference_items(describe_dataset("acdc"), images=images[1:])) == 2


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.nii\.gz.*Check --images"):
        inference_items(describe_dataset("acdc"), images=tmp_path / "none.nii.gz")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"images/\{case\}\.nii\*.*--images"):
        inference_items(describe_dataset("acdc"), tmp_path)


def test_another_dataset_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="needs three"):
        inference_items(describe_dataset("acdc"))
