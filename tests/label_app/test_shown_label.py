"""Labels on their way to a viewer and back."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from PIL import Image
from reviewed_hearts import values_of
from simulated import write_hearts, write_pictures

from monai_noisylabel.data import load_dataset
from monai_noisylabel.data.case_label import CaseLabel, read_case_label
from monai_noisylabel.label_app.label_code import LabelCode
from monai_noisylabel.label_app.shown_label import read_shown_label, write_shown_image, write_shown_label


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


def _shown(root: Path) -> dict[str, tuple[CaseLabel, LabelCode, Path, Path]]:
    """Label, code, image and shown label of volumes in five orientations."""
    spec = load_dataset(write_hearts(root / "data"), root / "data", complete=False)
    code = LabelCode.of(spec.classes, [])
    shown = {}
    for item in spec.items_of("all"):
        label, image = read_case_label(item, spec), Path(item["image"])
        target = root / "shown" / f"{item['case']}.nii.gz"
        write_shown_label(label, label.masks, code, image, target)
        shown[item["case"]] = (label, code, image, target)
    return shown


def test_a_shown_label_lies_on_the_image_voxel_by_voxel(tmp_path: Path) -> None:
    for label, code, image, target in _shown(tmp_path).values():
        given = values_of(image) - 5  # the image of a heart is its label plus 5
        expected = np.zeros(given.shape, np.uint8)
        for value, number in ((10, 1), (20, 2), (21, 2), (30, 3)):
            expected[given == value] = number
        assert np.array_equal(values_of(target), expected)
        assert np.allclose(nibabel.load(target).affine, nibabel.load(image).affine)
        assert np.array_equal(read_shown_label(target, None, label, code), label.masks)
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == [f"h{n}.nii.gz" for n in range(5)]


def test_a_label_in_other_axes_and_another_format_is_turned(tmp_path: Path) -> None:
    label, code, _, target = _shown(tmp_path)["h3"]
    volume = nibabel.load(target)
    turned = nibabel.as_closest_canonical(volume)
    assert turned.shape != volume.shape
    nibabel.save(turned, tmp_path / "turned.nii")
    assert np.array_equal(read_shown_label(tmp_path / "turned.nii", None, label, code), label.masks)
    itk.imwrite(itk.imread(str(target)), str(tmp_path / "slicer.nrrd"))
    assert np.array_equal(read_shown_label(tmp_path / "slicer.nrrd", None, label, code), label.masks)


def test_a_label_of_something_else_is_refused(tmp_path: Path) -> None:
    label, code, _, target = _shown(tmp_path)["h0"]
    volume = nibabel.load(target)
    values = np.asarray(volume.dataobj)
    nibabel.save(nibabel.Nifti1Image(values[1:], volume.affine), tmp_path / "cut.nii.gz")
    with pytest.raises(ValueError, match=r"has the shape \(23, 28, 11\), the image \(24, 28, 11\)"):
        read_shown_label(tmp_path / "cut.nii.gz", None, label, code)
    moved = volume.affine.copy()
    moved[0, 3] += 0.51
    nibabel.save(nibabel.Nifti1Image(values, moved), tmp_path / "moved.nii.gz")
    with pytest.raises(ValueError, match=r"lies up to 0\.51 mm beside the image"):
        read_shown_label(tmp_path / "moved.nii.gz", None, label, code)
    moved[0, 3] -= 0.02
    nibabel.save(nibabel.Nifti1Image(values, moved), tmp_path / "near.nii.gz")
    assert np.array_equal(read_shown_label(tmp_path / "near.nii.gz", None, label, code), label.masks)


def test_overlapping_structures_of_pictures_share_one_file(tmp_path: Path) -> None:
    spec = load_dataset(write_pictures(tmp_path / "data"), tmp_path / "data", complete=False)
    item = spec.items_of("all")[0]
    label = read_case_label(item, spec)
    code = LabelCode.of(spec.classes, [label.masks])
    target = tmp_path / "shown.png"
    write_shown_label(label, label.masks, code, Path(item["image"]), target)
    assert code.label_names == {"large": 1, "small": 2, "large + small": 3}
    large, small = (np.asarray(Image.open(path)) > 0 for path in item["label"])
    assert np.array_equal(np.asarray(Image.open(target)), np.where(large & small, 3, large + 2 * small))
    assert np.array_equal(read_shown_label(target, None, label, code), label.masks)


def test_images_that_no_viewer_lists_are_converted(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for array, name in ((picture, "grey"), (colours, "colour")):
        Image.fromarray(array).save(tmp_path / f"{name}.bmp")
        write_shown_image(str(tmp_path / f"{name}.bmp"), tmp_path / f"{name}.png")
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), array)
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "a.nii.gz")
    itk.imwrite(itk.imread(str(tmp_path / "a.nii.gz")), str(tmp_path / "a.mha"))
    write_shown_image(str(tmp_path / "a.mha"), tmp_path / "shown.nii.gz")
    assert np.allclose(values_of(tmp_path / "shown.nii.gz"), volume)
    assert np.allclose(nibabel.load(tmp_path / "shown.nii.gz").affine, affine)
