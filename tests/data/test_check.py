"""Dataset check: every kind of problem is found, named, and harms nothing else."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dataset_files import (
    CT_AFFINE,
    ct_pair,
    manifest,
    mask,
    photograph,
    write_ct_dataset,
    write_picture,
    write_volume,
)
from dicom_files import write_series
from PIL import Image

from monai_noisylabel.data.check import Report, check_dataset
from monai_noisylabel.data.facts_cache import FactsCache
from monai_noisylabel.data.file_facts import FileFacts, label_facts, read_array
from monai_noisylabel.data.manifest import Manifest


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five good cases c0 .. c4."""
    return write_ct_dataset(tmp_path / "data", 5)


def kinds(report: Report) -> list[tuple[str, str, bool]]:
    """Case, kind and fatality of every problem."""
    return [(problem.case, problem.kind, problem.fatal) for problem in report.problems]


def usable(report: Report) -> list[str]:
    """Ids of usable cases."""
    return sorted(case.case for cases in report.splits.values() for case in cases)


def overwrite(root: Path, folder: str, array: np.ndarray, affine: np.ndarray = CT_AFFINE) -> None:
    """Replace a file of case c1."""
    write_volume(root / folder / "c1.nii.gz", array, affine)


def test_a_good_dataset_is_safe(root: Path) -> None:
    report = check_dataset(manifest(), root)
    assert report.problems == ()
    assert report.safe
    assert report.unassigned == 1
    assert report.verdict == "Safe to train on: 2 train, 1 val, 1 test."


@pytest.mark.parametrize("folder", ["images", "labels"])
@pytest.mark.parametrize("keep", [0, 20, 60, -8, -1])
def test_truncated_volumes(root: Path, folder: str, keep: int) -> None:
    path = root / folder / "c1.nii.gz"
    path.write_bytes(path.read_bytes()[:keep])
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "unreadable", True)]
    assert report.problems[0].file == f"{folder}/c1.nii.gz"
    assert usable(report) == ["c0", "c2", "c3"]
    assert not report.safe
    assert "1 case is faulty (c1)" in report.verdict


def test_a_truncated_volume_without_compression(root: Path) -> None:
    content = gzip.decompress((root / "images/c1.nii.gz").read_bytes())
    (root / "images/c1.nii.gz").unlink()
    (root / "images/c1.nii").write_bytes(content[:-1])
    assert kinds(check_dataset(manifest(), root)) == [("c1", "unreadable", True)]
    (root / "images/c1.nii").write_bytes(content)
    assert check_dataset(manifest(), root).safe


def test_a_flipped_bit_is_found_by_the_checksum(root: Path) -> None:
    path = root / "images/c1.nii.gz"
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))  # stored, not deflated
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert kinds(check_dataset(manifest(), root)) == [("c1", "unreadable", True)]


def test_files_without_counterpart_leave_the_rest_safe(root: Path) -> None:
    (root / "labels/c1.nii.gz").unlink()
    (root / "images/c2.nii.gz").unlink()
    report = check_dataset(manifest(splits={"val": {"count": 1}, "test": {"count": 1}}), root)
    assert kinds(report) == [("c1", "image without label", True), ("c2", "label without image", True)]
    assert "labels/c1.nii*" in report.problems[0].message
    assert report.problems[1].file == "labels/c2.nii.gz"
    assert usable(report) == ["c0", "c3", "c4"]
    assert report.safe
    assert "2 incomplete cases are left out" in report.verdict


def test_a_damaged_file_moves_no_other_case_between_splits(root: Path) -> None:
    rules = manifest(splits={"val": {"count": 1}, "test": {"count": 2}})
    before = check_dataset(rules, root).splits
    (root / "images/c1.nii.gz").write_bytes(b"")
    after = check_dataset(rules, root).splits
    for split, cases in before.items():
        assert [case.case for case in after[split]] == [case.case for case in cases if case.case != "c1"]


def test_shape_mismatch(root: Path) -> None:
    overwrite(root, "labels", ct_pair((8, 6, 5))[1])
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "shape", True)]
    assert "8 x 6 x 5 voxels" in report.problems[0].message
    assert "8 x 6 x 4" in report.problems[0].message


@pytest.mark.parametrize(
    ("shift", "expected"),
    # a tenth of the smallest voxel edge (2 mm) is allowed
    [(0.19, []), (0.21, [("c1", "affine", True)])],
)
def test_a_shifted_label(root: Path, shift: float, expected: list[tuple[str, str, bool]]) -> None:
    affine = CT_AFFINE.copy()
    affine[2, 3] += shift
    overwrite(root, "labels", ct_pair()[1], affine)
    assert kinds(check_dataset(manifest(), root)) == expected


def test_a_label_of_other_spacing_is_off_at_the_far_corner(root: Path) -> None:
    # 5.0 against 5.1 mm slices: 3 x 0.1 = 0.3 mm at the last of four slices
    overwrite(root, "labels", ct_pair()[1], np.diag([-2.0, -2.0, 5.1, 1.0]))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "affine", True)]
    assert "0.3 mm" in report.problems[0].message


def test_orientation_mismatch(root: Path) -> None:
    overwrite(root, "labels", ct_pair()[1], np.diag([2.0, 2.0, 5.0, 1.0]))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "orientation", True)]
    assert "oriented RAS" in report.problems[0].message
    assert "LPS" in report.problems[0].message


def test_an_affine_that_maps_nothing(root: Path) -> None:
    path = root / "images/c1.nii.gz"
    volume = nibabel.load(path)
    volume.header.set_sform(np.diag([np.nan, 1, 1, 1]), code=1)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[:348] = volume.header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "unreadable", True)]
    assert "affine" in report.problems[0].message


def test_label_values(root: Path) -> None:
    label = ct_pair()[1]
    label[0, 0, 0] = 7
    overwrite(root, "labels", label)
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "label values", True)]
    assert "unknown values 7" in report.problems[0].message
    assert check_dataset(manifest(background=[0, 7]), root).safe


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_label_value_that_is_no_whole_number(root: Path, value: float) -> None:
    label = ct_pair()[1].astype(np.float32)
    label[1, 1, 1] = value
    overwrite(root, "labels", label)
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "label values", True)]
    assert f"value {value:g} is no whole number" in report.problems[0].message


def test_whole_numbers_stored_as_floats_are_fine(root: Path) -> None:
    overwrite(root, "labels", ct_pair()[1].astype(np.float64))
    assert check_dataset(manifest(), root).problems == ()


def test_an_empty_label_is_used_and_noted(root: Path) -> None:
    overwrite(root, "labels", np.zeros((8, 6, 4), np.uint8))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "empty label", False)]
    assert "c1" in usable(report)
    assert report.safe


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_intensity_that_is_no_number(root: Path, value: float) -> None:
    image = ct_pair()[0].astype(np.float32)
    image[0, 0, 0] = value
    overwrite(root, "images", image)
    assert kinds(check_dataset(manifest(), root)) == [("c1", "not finite", True)]


def test_a_constant_image(root: Path) -> None:
    overwrite(root, "images", np.full((8, 6, 4), -1024, np.int16))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "constant image", True)]
    assert "-1024" in report.problems[0].message


def test_channels(root: Path) -> None:
    image, label = ct_pair()
    overwrite(root, "images", np.stack([image, image + 1], -1))
    assert kinds(check_dataset(manifest(), root)) == [("c1", "channels", True)]
    overwrite(root, "images", image[..., None])
    assert check_dataset(manifest(), root).safe
    overwrite(root, "labels", np.stack([label, 0 * label], -1))
    assert kinds(check_dataset(manifest(), root)) == [("c1", "channels", True)]
    overwrite(root, "labels", np.stack([label, label], -1))
    assert check_dataset(manifest(), root).safe


def test_a_patient_in_two_splits(tmp_path: Path) -> None:
    image, label = ct_pair()
    for name in ("p1_a", "p1_b", "p2_a", "p3_a"):
        write_volume(tmp_path / f"d/images/{name}.nii.gz", image)
        write_volume(tmp_path / f"d/labels/{name}.nii.gz", label)
    rules = {"val": {"cases": ["p2_a"]}, "test": {"cases": ["p1_b"]}}
    report = check_dataset(manifest(patient="(p\\d)_.", splits=rules), tmp_path / "d")
    assert kinds(report) == [("p1_a", "duplicate patient", True)]
    assert not report.safe
    assert usable(report) == ["p1_b", "p2_a", "p3_a"]


def test_a_case_id_in_two_folders(tmp_path: Path) -> None:
    for part, name in (("old", "x"), ("old", "y"), ("old", "z"), ("new", "x")):
        write_picture(tmp_path / f"d/{part}/photos/{name}.png", photograph())
        write_picture(tmp_path / f"d/{part}/masks/{name}.png", mask(value=1))
    made = pictures(
        layout={"image": "{part}/photos/{case}.png", "label": "{part}/masks/{case}.png"},
        splits={"val": {"match": {"part": "old"}, "count": 1}, "test": {"match": {"part": "new"}}},
    )
    report = check_dataset(made, tmp_path / "d")
    assert kinds(report) == [("x", "duplicate case", True)]
    assert "new/photos/x.png in test" in report.problems[0].message
    assert not report.safe


def test_a_case_id_without_patient(root: Path) -> None:
    report = check_dataset(manifest(patient="c([0-3])"), root)
    assert kinds(report) == [("c4", "patient id", True)]


def test_two_files_for_one_purpose(root: Path) -> None:
    shutil.copy(root / "labels/c1.nii.gz", root / "labels/c1.nii.gz.nii")
    report = check_dataset(manifest(), root)
    assert ("c1", "ambiguous file", True) in kinds(report)
    assert "c1" not in usable(report)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_that_lead_out_of_the_folder(root: Path, tmp_path: Path) -> None:
    (root / "images/c1.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    (root / "images/c1.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    (root / "labels/c2.nii.gz").rename(root / "moved.nii.gz")
    (root / "labels/c2.nii.gz").symlink_to(root / "moved.nii.gz")
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "outside", True)]
    assert not report.safe
    assert all("elsewhere" not in file for file in report.facts)
    (tmp_path / "link").symlink_to(root)  # the folder itself may be a link
    assert kinds(check_dataset(manifest(), tmp_path / "link")) == [("c1", "outside", True)]


def test_an_empty_split_is_unsafe(root: Path) -> None:
    report = check_dataset(manifest(splits={"val": {"patients": ["c0"]}, "test": {"patients": ["nobody"]}}), root)
    assert kinds(report) == [("nobody", "not found", False)]
    assert "split test holds no usable case" in report.verdict
    assert not report.safe


def test_missing_folder_and_wrong_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist.*the shelf in the reading room"):
        check_dataset(manifest(), tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"No image in .* fits 'images/.*it holds c0\.nii\.gz"):
        check_dataset(manifest(), root / "images")


def test_all_problems_of_many_bad_files_are_found_at_once(root: Path) -> None:
    (root / "images/c0.nii.gz").write_bytes(b"not an image")
    (root / "images/c1.nii.gz").write_bytes(b"")
    overwrite(root, "labels", np.full((1, 1, 1), 9, np.uint8))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [
        ("c0", "unreadable", True),
        ("c1", "unreadable", True),
        ("c1", "label values", True),
    ]


def pictures(**changes: object) -> Manifest:
    """A manifest of colour pictures."""
    content: dict[str, object] = {
        "spatial_dims": 2,
        "channels": 3,
        "classes": {"lesion": 1},
        "layout": {"image": "i/{case}.*", "label": "l/{case}.png"},
        "splits": {"val": {"count": 1}, "test": {"count": 1}},
        "preprocessing": {"normalise": "zscore", "orientation": None},
    }
    return manifest(**{**content, **changes})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photographs with a mask."""
    for name in "abcd":
        write_picture(tmp_path / f"photos/i/{name}.jpg", photograph(60, 80))
        write_picture(tmp_path / f"photos/l/{name}.png", mask(60, 80, value=1))
    return tmp_path / "photos"


def test_pictures(photos: Path) -> None:
    assert check_dataset(pictures(), photos).safe
    report = check_dataset(pictures(), photos, spatial_dims=3)
    assert {kind for _, kind, _ in kinds(report)} == {"dimensions"}


@pytest.mark.parametrize("file", ["i/a.jpg", "l/a.png"])
@pytest.mark.parametrize("cut", [3, 20, 60])
def test_truncated_pictures(photos: Path, file: str, cut: int) -> None:
    (photos / file).write_bytes((photos / file).read_bytes()[:-cut])
    assert kinds(check_dataset(pictures(), photos)) == [("a", "unreadable", True)]


def test_a_picture_label_of_other_shape(photos: Path) -> None:
    write_picture(photos / "l/a.png", mask(60, 81, value=1))
    assert kinds(check_dataset(pictures(), photos)) == [("a", "shape", True)]


def test_a_tiff_with_pages_is_no_picture(photos: Path) -> None:
    page = Image.fromarray(photograph(60, 80))
    (photos / "i/a.jpg").unlink()
    page.save(photos / "i/a.tif", save_all=True, append_images=[page])
    report = check_dataset(pictures(), photos)
    assert kinds(report) == [("a", "unreadable", True)]
    assert "several pages" in report.problems[0].message


def test_grey_and_coloured_label_pictures(photos: Path) -> None:
    grey = mask(60, 80, value=1)
    for array in (np.stack([grey] * 3, -1), np.dstack([grey, grey, grey, np.full_like(grey, 255)])):
        write_picture(photos / "l/a.png", array)
        assert check_dataset(pictures(), photos).safe
    coloured = np.zeros((60, 80, 3), np.uint8)
    coloured[5:9, 5:9] = (0, 255, 1)
    write_picture(photos / "l/a.png", coloured)
    assert kinds(check_dataset(pictures(), photos)) == [("a", "channels", True)]
    by_colour = pictures(classes={"lesion": "#00ff01"})
    report = check_dataset(by_colour, photos)  # the other masks are grey: their value 1 is the colour #010101
    assert kinds(report) == [(name, "label values", True) for name in "bcd"]
    assert "#010101" in report.problems[0].message
    assert check_dataset(pictures(classes={"lesion": ["#00ff01", "#010101"]}), photos).problems == ()


def test_a_mask_of_more_than_two_values_is_noted(photos: Path) -> None:
    lossy = mask(60, 80, value=255)
    lossy[2, 2] = 3
    write_picture(photos / "l/a.png", lossy)
    report = check_dataset(pictures(classes={"lesion": None}), photos)
    assert kinds(report) == [("a", "label values", False)]
    assert "3 values 0, 3, 255 instead of two" in report.problems[0].message
    assert report.safe


def test_one_label_file_per_class_in_any_order(photos: Path) -> None:
    for name in "abcd":
        write_picture(photos / f"cup/{name}.png", mask(60, 80, value=7))
    layout = {"image": "i/{case}.jpg", "label": {"cup": "cup/{case}.png", "lesion": "l/{case}.png"}}
    made = pictures(classes={"lesion": 1, "cup": 7}, task="multi_label", layout=layout)
    assert check_dataset(made, photos).problems == ()
    (photos / "cup/a.png").unlink()
    report = check_dataset(made, photos)
    assert kinds(report) == [("a", "image without label", True)]
    assert "cup/a.png" in report.problems[0].message


def test_several_image_files_per_case(root: Path) -> None:
    for number in range(5):
        (root / "t2").mkdir(exist_ok=True)
        shutil.copy(root / f"images/c{number}.nii.gz", root / f"t2/c{number}.nii.gz")
    layout = {"image": ["images/{case}.nii.gz", "t2/{case}.nii.gz"], "label": "labels/{case}.nii.gz"}
    made = manifest(channels=2, layout=layout)
    assert check_dataset(made, root).safe
    write_volume(root / "t2/c1.nii.gz", ct_pair((8, 6, 5))[0])
    assert kinds(check_dataset(made, root)) == [("c1", "shape", True)]


def test_dicom_series_and_nrrd(tmp_path: Path) -> None:
    itk = pytest.importorskip("itk")
    image, label = ct_pair()
    for number in range(3):
        write_series(tmp_path / f"d/ct/p{number}", image, origin=(0, 0, 0), spacing=(2, 2, 5))
        volume = itk.image_from_array(np.ascontiguousarray(label.T))
        volume.SetSpacing((2.0, 2.0, 5.0))
        (tmp_path / "d/seg").mkdir(exist_ok=True)
        itk.imwrite(volume, str(tmp_path / f"d/seg/p{number}.nrrd"))
    made = manifest(
        layout={"image": "ct/{case}/", "label": "seg/{case}.nrrd"},
        splits={"val": {"count": 1}, "test": {"count": 1}},
    )
    report = check_dataset(made, tmp_path / "d")
    assert report.problems == ()
    assert report.facts["ct/p0"].shape == (8, 6, 4)
    series = sorted((tmp_path / "d/ct/p1").iterdir())
    series[0].write_bytes(series[0].read_bytes()[:-9])
    nrrd = tmp_path / "d/seg/p2.nrrd"
    nrrd.write_bytes(nrrd.read_bytes()[:-9])
    report = check_dataset(made, tmp_path / "d", cached=True)
    assert kinds(report) == [("p1", "unreadable", True), ("p2", "unreadable", True)]
    assert "p1: cannot be read: 00.dcm. Restore" in report.problems[0].message


def test_progress_counts_every_file(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_dataset(manifest(), root, lambda done, total: seen.append((done, total)))
    assert seen == [(n, 10) for n in range(1, 11)]


def test_unchanged_files_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    first = check_dataset(manifest(), root)
    second = check_dataset(manifest(), root, lambda done, total: seen.append(done), cached=True)
    assert seen == []
    assert second.facts == first.facts
    path = root / "labels/c1.nii.gz"
    overwrite(root, "labels", np.full((8, 6, 4), 9, np.uint8))
    third = check_dataset(manifest(), root, lambda done, total: seen.append(total), cached=True)
    assert seen == [1]
    assert kinds(third) == [("c1", "label values", True)]
    state = path.stat()
    overwrite(root, "labels", ct_pair()[1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # the same second, another nanosecond
    assert check_dataset(manifest(), root, cached=True).safe
    other = manifest(preprocessing={"normalise": "zscore", "orientation": "PIR"})  # slices run along another axis
    check_dataset(other, root, lambda done, total: seen.append(total), cached=True)
    assert seen[-1] == 5


def test_a_failed_read_is_tried_again(root: Path) -> None:
    cache = FactsCache(root)
    cache.put("images/c0.nii.gz", "image", FileFacts(error="the network was away"), cache.state("images/c0.nii.gz"))
    cache.save()
    assert FactsCache(root).get("images/c0.nii.gz", "image") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2, "files": {"image|images/c0.nii.gz": 3}}'])
def test_a_damaged_cache_only_costs_time(root: Path, content: str) -> None:
    check_dataset(manifest(), root)
    cache = FactsCache(root)
    cache.path.write_text(content)
    assert check_dataset(manifest(), root, cached=True).safe
    assert FactsCache(root).get("images/c0.nii.gz", "image") is not None


def test_a_cache_folder_that_cannot_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "a_file"))
    assert check_dataset(manifest(), root, cached=True).safe
    assert "Set NOISYLABEL_CACHE" in caplog.text


def test_nothing_is_written_into_the_dataset(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check_dataset(manifest(), root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("affine", "orientation", "expected"),
    [
        # tumour (2) in slice 2 of 4 along the third axis, liver (1) in slices 1 and 2
        (np.diag([-2.0, -2.0, 5.0, 1.0]), "RAS", {1: [(1, 3)], 2: [(2, 3)]}),
        # third axis runs from superior to inferior: slice k becomes 3 - k
        (np.diag([-2.0, -2.0, -5.0, 1.0]), "RAS", {1: [(1, 3)], 2: [(1, 2)]}),
        (np.diag([-2.0, -2.0, -5.0, 1.0]), None, {1: [(1, 3)], 2: [(2, 3)]}),
        # the first axis of the file (8 voxels, liver 2..4, tumour 3) points to superior
        (
            np.array([[0, 2.0, 0, 0], [0, 0, 2.0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]]),
            "RAS",
            {1: [(2, 5)], 2: [(3, 4)]},
        ),
    ],
)
def test_slices_are_counted_after_orientation(
    tmp_path: Path, affine: np.ndarray, orientation: str | None, expected: dict[int, list[tuple[int, int]]]
) -> None:
    path = write_volume(tmp_path / "label.nii.gz", ct_pair()[1], affine)
    facts = label_facts(path, orientation, coloured=False)
    assert facts.slices == expected
    assert facts.slice_count(orientation) == (8 if affine[2, 0] else 4)
    assert facts.slices_with([2]) == list(range(*expected[2][0]))
    assert facts.slices_with(None) == list(range(*expected[1][0]))


def test_runs_with_gaps(tmp_path: Path) -> None:
    label = np.zeros((3, 3, 7), np.int32)
    label[1, 1, [0, 1, 4, 6]] = 300
    facts = label_facts(write_volume(tmp_path / "label.nii", label), "RAS", coloured=False)
    assert facts.values == (0, 300)
    assert facts.slices == {300: [(0, 2), (4, 5), (6, 7)]}


def test_a_label_that_is_an_image(root: Path) -> None:
    overwrite(root, "labels", np.arange(8 * 6 * 4, dtype=np.int16).reshape(8, 6, 4))
    report = check_dataset(manifest(), root)
    assert kinds(report) == [("c1", "label values", True)]
    assert "unknown values 3, 4, 5, 6, 7, ..." in report.problems[0].message


def test_nifti_2_is_read(tmp_path: Path) -> None:
    image, _ = ct_pair()
    nibabel.save(nibabel.Nifti2Image(image, CT_AFFINE), tmp_path / "two.nii.gz")
    array, affine = read_array(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(array, image)
    np.testing.assert_array_equal(affine, CT_AFFINE)
