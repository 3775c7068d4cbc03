"""DICOM SEG written: it reads back equal, refers to the images, and replaces nothing."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dataset_files import real_data
from dicom_files import AXIAL, edit, write_seg, write_series
from scipy.spatial.transform import Rotation

from monai_noisylabel.data import DicomError, SegmentInfo, corrected_seg, read_series, write_dicom_seg
from monai_noisylabel.data.corrected_seg import Placed, check_format, write_corrected_seg
from monai_noisylabel.data.dicom_seg import DicomRules, open_seg, seg_values
from monai_noisylabel.data.dicom_series import DicomSeries

pytest.importorskip("highdicom")

SHAPE = (5, 4, 6)
TURNED = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
OBLIQUE = (*TURNED[:, 0], *TURNED[:, 1])
MASKS = np.random.default_rng(0).random((3, *SHAPE)) > 0.6
MASKS[1, ..., 2:5] = False
OVERLAP = DicomRules(overlap=True)


def made(folder: Path, orientation: tuple[float, ...] = AXIAL) -> DicomSeries:
    write_series(folder, np.zeros(SHAPE, np.int16), orientation=orientation)
    return read_series(folder)


def masks_of(path: Path, series: DicomSeries, numbers: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    return seg_values(open_seg(path, series), OVERLAP, [(number,) for number in numbers]) > 0


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_round_trip(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = made(tmp_path / "ct", orientation)
    path = write_dicom_seg(MASKS, series, tmp_path / "new/seg.dcm", ["Liver", "Tumour", "Vein"])
    np.testing.assert_array_equal(masks_of(path, series), MASKS)
    data, source = pydicom.dcmread(path), pydicom.dcmread(series.slices[0].path)
    assert [item.SegmentLabel for item in data.SegmentSequence] == ["Liver", "Tumour", "Vein"]
    assert (data.SegmentationType, data.SeriesDescription) == ("BINARY", "Segmentation for research")
    for name in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        assert data[name].value == source[name].value
    (reference,) = data.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == series.uid
    assert {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence} == {
        one.uid for one in series.slices
    }
    assert data.NumberOfFrames == MASKS.any((1, 2)).sum() == 15
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["seg.dcm"]


def test_an_empty_segmentation_with_a_long_name(tmp_path: Path) -> None:
    """DICOM allows labels of 64 characters; and an empty character set, which some devices write."""
    series = made(tmp_path / "ct")
    for one in series.slices:
        edit(one.path, SpecificCharacterSet="")
    path = write_dicom_seg(np.zeros((1, *SHAPE)), series, tmp_path / "seg.dcm", ["Liver" * 20])
    assert not masks_of(path, series, (1,)).any()
    assert open_seg(path, series).labels == {1: ("Liver" * 20)[:64]}


def test_descriptions(tmp_path: Path) -> None:
    series = made(tmp_path / "ct")
    info = SegmentInfo("Liver", kind=("10200004", "SCT", "Liver"), colour=(40000, 41000, 42000))
    path = write_dicom_seg(MASKS[:1], series, tmp_path / "seg.dcm", [info])
    (item,) = pydicom.dcmread(path).SegmentSequence
    assert SegmentInfo.like(item) == info
    assert SegmentInfo.like(pydicom.Dataset.from_json({"00620004": {"vr": "US", "Value": [3]}})) == SegmentInfo("3")
    assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "monai_noisylabel")


def test_nothing_is_replaced(tmp_path: Path) -> None:
    series = made(tmp_path / "ct")
    path = write_dicom_seg(MASKS[:1], series, tmp_path / "seg.dcm", ["Liver"])
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"seg\.dcm exists; write elsewhere"):
        write_dicom_seg(MASKS[1:2], series, path, ["Liver"])
    assert path.read_bytes() == before
    write_dicom_seg(MASKS[1:2], series, path, ["Liver"], overwrite=True)
    np.testing.assert_array_equal(masks_of(path, series, (1,)), MASKS[1:2])


@pytest.mark.parametrize(("masks", "names"), [(MASKS[:1], ["a", "b"]), (MASKS[:1, :3], ["a"]), (MASKS[:0], [])])
def test_masks_that_do_not_fit(tmp_path: Path, masks: np.ndarray, names: list[str]) -> None:
    series = made(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"do not fit \d segment\(s\) of .*ct, whose volume has the shape \(5, 4, 6\)"):
        write_dicom_seg(masks, series, tmp_path / "seg.dcm", names)
    assert not (tmp_path / "seg.dcm").exists()


def test_without_highdicom_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actual = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("highdicom"):
            raise ModuleNotFoundError(name)
        return actual(name, *rest)

    series = made(tmp_path / "ct")
    monkeypatch.setattr(builtins, "__import__", missing)
    advice = r'pip install "monai_noisylabel\[dicom\]"'
    with pytest.raises(ModuleNotFoundError, match=advice):
        write_dicom_seg(MASKS[:1], series, tmp_path / "seg.dcm", ["Liver"])
    with pytest.raises(ModuleNotFoundError, match=advice):
        check_format("dicom_seg")
    check_format("nifti")
    with pytest.raises(ValueError, match="one of nifti, dicom_seg, got 'png'"):
        check_format("png")


def test_images_without_a_frame_of_reference(tmp_path: Path) -> None:
    series = made(tmp_path / "ct")
    edit(series.slices[2].path, FrameOfReferenceUID=None)
    with pytest.raises(DicomError, match=r"02\.dcm: has no FrameOfReferenceUID, which a DICOM SEG refers to"):
        write_dicom_seg(MASKS[:1], series, tmp_path / "seg.dcm", ["Liver"])


def placed(series: DicomSeries, *masks: np.ndarray) -> list[Placed]:
    return [(mask, series.affine) for mask in masks]


def test_other_segments_and_numbers_are_kept(tmp_path: Path) -> None:
    """Segment 2 is corrected; 1 is none of the classes and 3 overlaps with what 2 has gained."""
    series = made(tmp_path / "ct")
    files = [one.path for one in series.slices]
    given = write_seg(tmp_path / "given.dcm", files, dict(zip(("Body", "Liver", "Vein"), MASKS, strict=True)))
    corrected = ~MASKS[1]
    path = write_corrected_seg(
        placed(series, corrected), {"liver": 2}, str(tmp_path / "ct"), [str(given)], tmp_path / "new.dcm", OVERLAP
    )
    np.testing.assert_array_equal(masks_of(path, series), [MASKS[0], corrected, MASKS[2]])
    assert open_seg(path, series).labels == {1: "Body", 2: "Liver", 3: "Vein"}
    path = write_corrected_seg(
        placed(series, corrected),
        {"liver": 2},
        str(tmp_path / "ct"),
        [str(given)],
        tmp_path / "exclusive.dcm",
        DicomRules(ignored=frozenset({0, 1})),
    )
    gained = corrected & ~MASKS[1]
    np.testing.assert_array_equal(masks_of(path, series), [MASKS[0], corrected, MASKS[2] & ~gained])


def test_a_class_of_several_segments_gains_in_the_first(tmp_path: Path) -> None:
    series = made(tmp_path / "ct")
    left, right, new = (np.zeros(SHAPE, bool) for _ in range(3))
    left[0], right[4], new[4], new[2] = True, True, True, True
    files = [one.path for one in series.slices]
    given = write_seg(tmp_path / "given.dcm", files, {"left": left, "right": right})
    for classes, rules in (
        ({"kidney": (1, 2)}, DicomRules()),
        ({"kidney": 5}, DicomRules(named={"left": 5, "right": 5})),
        ({"kidney": None}, DicomRules()),
    ):
        path = write_corrected_seg(
            placed(series, new),
            classes,
            str(tmp_path / "ct"),
            [str(given)],
            tmp_path / "new.dcm",
            rules,
            overwrite=True,
        )
        found = masks_of(path, series, (1, 2))
        np.testing.assert_array_equal(found, [new & ~right, right])


def test_a_class_that_the_file_has_no_segment_of(tmp_path: Path) -> None:
    """It gets the number of its value, with unused ones before it; or a label that the manifest names."""
    series = made(tmp_path / "ct")
    files = [one.path for one in series.slices]
    given = write_seg(tmp_path / "given.dcm", files, {"Liver": MASKS[1]})
    image, masks = str(tmp_path / "ct"), placed(series, MASKS[1], ~MASKS[1])
    path = write_corrected_seg(masks, {"liver": 1, "tumour": 3}, image, [str(given)], tmp_path / "a.dcm", DicomRules())
    assert open_seg(path, series).labels == {1: "Liver", 2: "unused", 3: "tumour"}
    np.testing.assert_array_equal(masks_of(path, series), [MASKS[1], np.zeros(SHAPE), ~MASKS[1]])
    rules = DicomRules(named={"Liver": 1, "Lesion": 3})
    path = write_corrected_seg(masks, {"liver": 1, "tumour": 3}, image, [str(given)], tmp_path / "b.dcm", rules)
    assert open_seg(path, series).labels == {1: "Liver", 2: "Lesion"}
    np.testing.assert_array_equal(seg_values(open_seg(path, series), rules)[0], np.where(MASKS[1], 1, 3))


def test_too_many_segments_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = made(tmp_path / "ct")
    given = write_seg(tmp_path / "given.dcm", [one.path for one in series.slices], {"Liver": MASKS[0]})
    monkeypatch.setattr(corrected_seg, "MAX_VOXELS", 3 * MASKS[0].size)
    masks, image, files = placed(series, MASKS[0]), str(tmp_path / "ct"), [str(given)]
    write_corrected_seg(masks, {"liver": 3}, image, files, tmp_path / "a.dcm", DicomRules())
    with pytest.raises(DicomError, match=r"given\.dcm: 4 segments of \(5, 4, 6\) are too many"):
        write_corrected_seg(masks, {"liver": 4}, image, files, tmp_path / "b.dcm", DicomRules())


def test_masks_in_another_orientation_of_the_grid(tmp_path: Path) -> None:
    series = made(tmp_path / "ct")
    turned = np.flip(MASKS[0].transpose(2, 0, 1), 1)
    affine = series.affine[:, [2, 0, 1, 3]]
    affine[:, 3] += affine[:, 1] * (SHAPE[0] - 1)
    affine[:, 1] *= -1
    given = [str(tmp_path / "label.nii.gz")]
    path = write_corrected_seg(
        [(turned, affine)], {"liver": 7}, str(tmp_path / "ct"), given, tmp_path / "a.dcm", DicomRules()
    )
    np.testing.assert_array_equal(masks_of(path, series, (1,)), MASKS[:1])
    assert open_seg(path, series).labels == {1: "liver"}
    affine[2, 3] += 1
    for mask, there in ((turned, affine), (MASKS[0, 1:], series.affine)):
        with pytest.raises(DicomError, match="is not that of the label"):
            write_corrected_seg(
                [(mask, there)], {"liver": 7}, str(tmp_path / "ct"), given, tmp_path / "b.dcm", DicomRules()
            )


@pytest.mark.realdata
def test_the_real_masks_round_trip(tmp_path: Path) -> None:
    folder = real_data("ct_dicom_seg")
    series = read_series(folder / "series")
    for name in ("liver_seg.dcm", "partial_overlaps.dcm"):
        given = open_seg(folder / name, series)
        numbers = tuple(given.labels)
        masks = masks_of(folder / name, series, numbers)
        path = write_dicom_seg(masks, series, tmp_path / name, list(given.labels.values()))
        np.testing.assert_array_equal(masks_of(path, series, numbers), masks)
        assert open_seg(path, series).labels == given.labels
