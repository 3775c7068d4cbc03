"""DICOM segmentations: every frame on its slice, whatever the kind of file; overlap kept or refused; wrong series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dataset_files import real_data
from dicom_files import edit, write_seg, write_series

from monai_noisylabel.data import DicomError, read_series
from monai_noisylabel.data.dicom_seg import DicomRules, is_dicom_seg, open_seg, seg_values
from monai_noisylabel.data.dicom_series import DicomSeries
from monai_noisylabel.data.file_facts import seg_facts

SHAPE = (5, 4, 6)
LIVER, TUMOUR, VEIN = (np.zeros(SHAPE, bool) for _ in range(3))
LIVER[1:4, 1:3, 1:4] = True
TUMOUR[4, 0, 2:6] = True
VEIN[2:5, 1:2, 3:5] = True
EXCLUSIVE = {"Liver": LIVER, "Tumour": TUMOUR}
OVERLAP = {**EXCLUSIVE, "Vein": VEIN}
VALUES = LIVER + 2 * TUMOUR


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    volume = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    return write_series(tmp_path / "ct", volume)


@pytest.fixture
def series(files: list[Path]) -> DicomSeries:
    return read_series(files[0].parent)


@pytest.fixture
def seg(files: list[Path], tmp_path: Path) -> Path:
    return write_seg(tmp_path / "seg.dcm", files, EXCLUSIVE)


def refused(path: Path, series: DicomSeries, rules: DicomRules | None = None) -> str:
    with pytest.raises(DicomError) as caught:
        seg_values(open_seg(path, series), rules or DicomRules())
    return str(caught.value)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("references", [True, False])
def test_kinds_of_segmentation(
    files: list[Path], series: DicomSeries, tmp_path: Path, kind: str, references: bool
) -> None:
    path = write_seg(tmp_path / "seg", files, EXCLUSIVE, kind, references)
    assert is_dicom_seg(path)
    found = open_seg(path, series)
    assert found.labels == {1: "Liver", 2: "Tumour"}
    np.testing.assert_array_equal(seg_values(found, DicomRules())[0], VALUES)


@pytest.mark.parametrize("size", [(4, 4), (6, 5)])
def test_frames_that_end_with_a_byte_or_within_one(tmp_path: Path, size: tuple[int, int]) -> None:
    """Of thirty pixels, a frame can begin near the end of a byte and take five of them."""
    mask = np.random.default_rng(0).random((*size, 6)) > 0.5
    files = write_series(tmp_path / "ct", np.zeros(mask.shape, np.int16))
    path = write_seg(tmp_path / "seg.dcm", files, {"Liver": mask})
    np.testing.assert_array_equal(seg_values(open_seg(path, read_series(tmp_path / "ct")), DicomRules())[0], mask)


def test_a_segmentation_of_one_frame(files: list[Path], series: DicomSeries, tmp_path: Path) -> None:
    one = np.zeros(SHAPE, bool)
    one[1, 2, 4] = True
    path = write_seg(tmp_path / "seg.dcm", files, {"Liver": one})
    np.testing.assert_array_equal(seg_values(open_seg(path, series), DicomRules())[0], one)


def test_what_is_no_segmentation(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.dcm").write_text("x")
    assert not is_dicom_seg(files[0])
    assert not is_dicom_seg(tmp_path / "notes.dcm")
    assert not is_dicom_seg(tmp_path)


def test_overlap_is_refused_where_classes_exclude_each_other(
    files: list[Path], series: DicomSeries, tmp_path: Path
) -> None:
    path = write_seg(tmp_path / "seg.dcm", files, OVERLAP)
    message = refused(path, series)
    both = np.count_nonzero(LIVER & VEIN)
    assert both == 2
    assert f"'Liver' (1) and 'Vein' (3) in slice 3 (03.dcm at 39 mm): {both} pixels" in message
    assert "'Tumour' (2)" not in message
    np.testing.assert_array_equal(seg_values(open_seg(path, series), DicomRules(ignored=frozenset({0, 3})))[0], VALUES)


def test_overlap_is_kept_where_structures_may_overlap(files: list[Path], series: DicomSeries, tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", files, OVERLAP)
    found = seg_values(open_seg(path, series), DicomRules(overlap=True), [(3,), (1, 2), None])
    np.testing.assert_array_equal(found[0], 3 * VEIN)
    np.testing.assert_array_equal(found[1] > 0, LIVER | TUMOUR)
    np.testing.assert_array_equal(found[2] > 0, LIVER | TUMOUR | VEIN)


def test_segments_by_label(files: list[Path], series: DicomSeries, tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", files, OVERLAP)
    named = {"Tumour": 5, "Liver": 7, "Vein": 0, "Kidney": 9}
    np.testing.assert_array_equal(
        seg_values(open_seg(path, series), DicomRules(named=named))[0], 7 * LIVER + 5 * TUMOUR
    )
    one_class = {"Tumour": 5, "Liver": 7, "Vein": 7}
    found = seg_values(open_seg(path, series), DicomRules(named=one_class))[0]
    np.testing.assert_array_equal(found == 7, LIVER | VEIN)
    message = refused(path, series, DicomRules(named={"Liver": 1, "Tumour": 2}))
    assert "does not name the segments 3 'Vein'; it names Liver, Tumour" in message


def test_facts_count_slices_in_the_axes_of_training(files: list[Path], tmp_path: Path) -> None:
    """Columns run to the left: in RAS the first axis is reversed; slices run up, as the last axis does."""
    path = write_seg(tmp_path / "seg.dcm", files, OVERLAP)
    rules = DicomRules(overlap=True)
    facts = seg_facts(path, files[0].parent, "RAS", rules)
    assert facts.shape == SHAPE
    assert facts.values == (0, 1, 2, 3)
    assert facts.slices == {1: [(1, 4)], 2: [(2, 6)], 3: [(3, 5)]}
    assert seg_facts(path, files[0].parent, "SAR", rules).slices == {1: [(1, 4)], 2: [(0, 1)], 3: [(0, 3)]}
    assert seg_facts(path, files[0].parent, "RSA", rules).slices == {1: [(1, 3)], 2: [(3, 4)], 3: [(2, 3)]}
    with pytest.raises(DicomError, match="segments overlap"):
        seg_facts(path, files[0].parent, "RAS", DicomRules())


def test_segmentation_of_another_series(seg: Path, tmp_path: Path) -> None:
    other = write_series(tmp_path / "other", np.zeros(SHAPE, np.int16))
    edit(seg, ReferencedSeriesSequence=[])
    message = refused(seg, read_series(tmp_path / "other"))
    assert "segments another series (not named) with another frame of reference" in message
    frame = pydicom.dcmread(seg).FrameOfReferenceUID
    for path in other:
        edit(path, FrameOfReferenceUID=frame)
    found = seg_values(open_seg(seg, read_series(tmp_path / "other")), DicomRules())
    np.testing.assert_array_equal(found[0], VALUES)


@pytest.mark.parametrize(
    ("spacing", "shape", "what"),
    [
        ((1.0, 2.0, 3.0), (4, 5, 6), r"rows and columns, \[4.0, 5.0\], differ from .*, \[5, 4\]"),
        ((1.5, 2.0, 3.0), SHAPE, r"pixel spacing, \[2.0, 1.0\], differ from .*, \[2.0, 1.5\]"),
    ],
)
def test_another_grid(seg: Path, tmp_path: Path, spacing: tuple[float, ...], shape: tuple[int, ...], what: str) -> None:
    frame = pydicom.dcmread(seg).FrameOfReferenceUID
    for path in write_series(tmp_path / "other", np.zeros(shape, np.int16), spacing=spacing):
        edit(path, FrameOfReferenceUID=frame)
    with pytest.raises(DicomError, match=what):
        open_seg(seg, read_series(tmp_path / "other"))


def test_another_orientation(series: DicomSeries, seg: Path) -> None:
    data = pydicom.dcmread(seg)
    data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    data.save_as(seg)
    assert "its orientation, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0], differ from" in refused(seg, series)


def test_background_of_a_label_map_is_no_segment(files: list[Path], series: DicomSeries, tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", files, EXCLUSIVE, "LABELMAP")
    data = pydicom.dcmread(path)
    background = pydicom.Dataset()
    background.SegmentNumber, background.SegmentLabel = 0, "Background"
    data.SegmentSequence.append(background)
    data.save_as(path)
    named = {"Liver": 7, "Tumour": 5}
    found = seg_values(open_seg(path, series), DicomRules(named=named))[0]
    np.testing.assert_array_equal(found, 7 * LIVER + 5 * TUMOUR)


def test_frames_where_the_series_has_no_slice(files: list[Path], seg: Path) -> None:
    files[5].unlink()
    assert "lies at [10.0, 20.0, 45.0] mm, where" in (message := refused(seg, read_series(files[0].parent)))
    assert "the nearest is 04.dcm at 42 mm" in message


def test_a_frame_that_contradicts_itself(files: list[Path], series: DicomSeries, seg: Path) -> None:
    data = pydicom.dcmread(seg)
    source = data.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = pydicom.dcmread(files[0]).SOPInstanceUID
    data.save_as(seg)
    message = refused(seg, series)
    assert "frame 1 lies at 05.dcm at 45 mm, but says that it was drawn on 00.dcm at 30 mm" in message


def test_damaged_segmentations(files: list[Path], series: DicomSeries, seg: Path, tmp_path: Path) -> None:
    edit(seg, PixelData=b"\0\0")
    assert "seg.dcm: its pixels cannot be read" in refused(seg, series)
    edit(seg, PerFrameFunctionalGroupsSequence=None)
    assert "seg.dcm: is no complete DICOM SEG" in refused(seg, series)
    assert "00.dcm: is no complete DICOM SEG (AttributeError" in refused(files[0], series)


@pytest.mark.realdata
def test_the_real_liver_lies_on_exactly_the_slices_it_names() -> None:
    folder = real_data("ct_dicom_seg")
    series = read_series(folder / "series")
    found = open_seg(folder / "liver_seg.dcm", series)
    assert found.labels == {1: "Liver"}
    mask = seg_values(found, DicomRules())[0]
    data = pydicom.dcmread(folder / "liver_seg.dcm")
    frames = zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True)
    drawn = {
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID: pixels
        for group, pixels in frames
    }
    for k, one in enumerate(series.slices):
        np.testing.assert_array_equal(mask[..., k], drawn[one.uid].T)
    assert 30 < np.median(series.voxels()[mask > 0]) < 130, "HU of a liver"


@pytest.mark.realdata
def test_the_real_overlap_is_refused_or_kept() -> None:
    folder = real_data("ct_dicom_seg")
    series = read_series(folder / "series")
    message = refused(folder / "partial_overlaps.dcm", series)
    assert "'GREEN' (1) and 'ORANGE' (2) in slice 1 (02.dcm at -127.69 mm): 3017 pixels" in message
    found = open_seg(folder / "partial_overlaps.dcm", series)
    masks = seg_values(found, DicomRules(overlap=True), [(k,) for k in found.labels]) > 0
    counts = [[0, 9602, 0], [0, 11888, 0], [117, 117, 10509], [6693, 0, 0], [4713, 0, 0]]
    assert masks.sum((1, 2)).tolist() == counts
