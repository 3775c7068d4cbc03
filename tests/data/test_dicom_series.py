"""DICOM series: the volume that ITK and NIfTI hold, whatever the order of files; what makes no volume is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import itk
import nibabel
import numpy as np
import pydicom
import pytest
from dataset_files import real_data
from dicom_files import AXIAL, edit, write_seg, write_series
from scipy.spatial.transform import Rotation

from monai_noisylabel.data import DicomError, read_series
from monai_noisylabel.data.dicom_slices import DicomSlice, at, ordered_slices
from monai_noisylabel.data.read_image import read_image

VOLUME = np.random.default_rng(0).integers(-900, 900, (5, 4, 6)).astype(np.int16)
TURNED = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
OBLIQUE = (*TURNED[:, 0], *TURNED[:, 1])
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "ct", VOLUME)


def refused(folder: Path, wanted: str | None = None) -> str:
    with pytest.raises(DicomError) as caught:
        read_series(folder, wanted)
    return str(caught.value)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
def test_the_volume_is_the_one_that_itk_writes_as_nifti(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    """ITK reads the slices in their order, and knows itself how NIfTI's axes run."""
    paths = write_series(tmp_path / "ct", VOLUME, orientation=orientation, spacing=(0.7, 0.8, 2.5), names="{:02d}")
    itk.imwrite(itk.imread([str(path) for path in paths], itk.F), str(tmp_path / "same.nii.gz"))
    same = nibabel.load(tmp_path / "same.nii.gz")
    for number, path in enumerate(paths):  # names against the order
        path.rename(path.with_name(f"1.2.{9 - number}"))
    series = read_series(tmp_path / "ct")
    np.testing.assert_array_equal(series.voxels(), np.asarray(same.dataobj))
    np.testing.assert_array_equal(series.voxels(), VOLUME)
    np.testing.assert_allclose(series.affine, same.affine, atol=1e-4)
    image = read_image(str(tmp_path / "ct"), 1)
    np.testing.assert_array_equal(image[0], VOLUME)
    np.testing.assert_allclose(image.affine, same.affine, atol=1e-4)
    assert "Nobody" not in str(image.meta)


def test_every_slice_has_its_own_slope_and_intercept(files: list[Path]) -> None:
    edit(files[1], RescaleSlope=0.5)
    edit(files[2], RescaleIntercept=-1000)
    voxels = read_series(files[0].parent).voxels()
    np.testing.assert_array_equal(voxels[..., 0], VOLUME[..., 0])
    np.testing.assert_array_equal(voxels[..., 1], (VOLUME[..., 1] + 1024) * 0.5 - 1024)
    np.testing.assert_array_equal(voxels[..., 2], VOLUME[..., 2] + 24)


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.DeflatedExplicitVRLittleEndian])
def test_compressed_files(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    volume = np.random.default_rng(0).integers(-900, 900, (16, 16, 3)).astype(np.int16)
    for path in write_series(tmp_path / "ct", volume):
        data = pydicom.dcmread(path)
        if syntax == pydicom.uid.RLELossless:
            data.compress(syntax)
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path / "ct").voxels(), volume)


def test_one_slice_goes_by_its_thickness(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path / "ct", VOLUME[..., :1])
    assert read_series(tmp_path / "ct").affine[2, 2] == 3
    edit(path, SpacingBetweenSlices=-2.0)
    assert read_series(tmp_path / "ct").affine[2, 2] == 2


def test_what_is_no_image_of_the_series_is_passed_over(files: list[Path], tmp_path: Path) -> None:
    folder = files[0].parent
    write_seg(folder / "liver.dcm", files, {"liver": VOLUME > 0})
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "DICOMDIR").write_bytes(b"x")
    (folder / "notes.txt").write_text("portal phase")
    (folder / "older").mkdir()
    index = pydicom.dcmread(files[0])
    index.SOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    index.save_as(folder / "index.dcm")
    assert read_series(folder).shape == VOLUME.shape


@pytest.mark.parametrize("name", ["06.dcm", "IM06", "1.2.840.6"])
def test_a_file_that_should_be_dicom_is_refused(files: list[Path], name: str) -> None:
    (files[0].parent / name).write_bytes(b"no longer what it was")
    message = refused(files[0].parent)
    assert name in message
    assert "no DICOM file, or it is damaged" in message


def test_a_file_without_preamble_is_read(files: list[Path]) -> None:
    content = files[0].read_bytes()
    files[0].write_bytes(content[content.index(b"\x08\x00\x16\x00UI") :])
    np.testing.assert_array_equal(read_series(files[0].parent).voxels(), VOLUME)


@pytest.mark.parametrize("number", [0, 3])
def test_truncated_pixels_are_noticed_and_named(files: list[Path], number: int) -> None:
    files[number].write_bytes(files[number].read_bytes()[:-9])
    with pytest.raises(DicomError, match=rf"ct: cannot be read: 0{number}\.dcm\. Restore what is damaged"):
        read_series(files[0].parent).voxels()


def test_files_that_changed_after_their_headers_were_read(files: list[Path]) -> None:
    series = read_series(files[0].parent)
    smaller = write_series(files[0].parent.parent / "small", VOLUME[:3])
    for old, new in zip(files, smaller, strict=True):
        shutil.copy(new, old)
    with pytest.raises(DicomError, match=r"shape \(3, 4, 6\), its headers \(5, 4, 6\)"):
        series.voxels()
    assert read_series(files[0].parent).shape == (3, 4, 6)


def test_headers_are_read_once_while_nothing_changes(files: list[Path]) -> None:
    first = read_series(files[0].parent)
    assert read_series(files[0].parent) is first
    files[-1].unlink()
    assert read_series(files[0].parent).shape == (5, 4, 5)


def test_several_series_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    portal = write_series(tmp_path / "ct", VOLUME, names="p{}.dcm")
    scout = write_series(tmp_path / "ct", VOLUME[..., :1] + 50, names="s{}.dcm", description="scout (lateral)")
    uids = [str(pydicom.dcmread(path).SeriesInstanceUID) for path in (portal[0], scout[0])]
    message = refused(tmp_path / "ct")
    assert f"holds 2 series: {uids[0]} (portal, CT, 6 files), {uids[1]} (scout (lateral), CT, 1 file)" in message
    assert '"dicom": {"series": "DESCRIPTION"}' in message
    assert read_series(tmp_path / "ct", "port.*").uid == uids[0]
    assert read_series(tmp_path / "ct", uids[1]).voxels().max() == VOLUME[..., 0].max() + 50
    assert "holds 2 series, of which 2 match '.*'" in refused(tmp_path / "ct", ".*")
    assert "of which 0 match 'port'" in refused(tmp_path / "ct", "port")  # the whole description counts


def test_a_missing_slice(files: list[Path]) -> None:
    files[2].unlink()
    message = refused(files[0].parent)
    assert "01.dcm at 33 mm and 03.dcm at 39 mm are 6 mm apart (1 slice is missing between them)" in message
    assert "the usual step is 3 mm" in message


def test_a_missing_slice_of_four(tmp_path: Path) -> None:
    """With two steps left, 3 and 6 mm, the smaller one is the usual one."""
    files = write_series(tmp_path / "ct", VOLUME[..., :4])
    files[2].unlink()
    message = refused(tmp_path / "ct")
    assert "evenly spaced: 01.dcm at 33 mm and 03.dcm at 39 mm are 6 mm apart" in message
    assert "the usual step is 3 mm" in message


def test_uneven_spacing_and_what_is_rounding(files: list[Path]) -> None:
    edit(files[-1], ImagePositionPatient=[10, 20, 45.2])
    assert read_series(files[0].parent).shape == VOLUME.shape
    edit(files[-1], ImagePositionPatient=[10, 20, 46.2])
    message = refused(files[0].parent)
    assert "04.dcm at 42 mm and 05.dcm at 46.2 mm are 4.2 mm apart; the usual" in message
    edit(files[-1], ImagePositionPatient=[10, 20, 49.5])
    assert "04.dcm at 42 mm and 05.dcm at 49.5 mm are 7.5 mm apart; the usual" in refused(files[0].parent)
    edit(files[-1], ImagePositionPatient=[10, 20, 42.1])
    assert "04.dcm at 42 mm and 05.dcm at 42.1 mm are 0.1 mm apart; the usual" in refused(files[0].parent)


def test_two_slices_at_one_position(files: list[Path]) -> None:
    shutil.copy(files[2], files[0].parent / "copy.dcm")
    edit(files[5], ImagePositionPatient=[10, 20, 30.001])
    message = refused(files[0].parent)
    assert "several slices lie at the same position: 00.dcm, 05.dcm at 30 mm, 02.dcm, copy.dcm at 36 mm." in message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ImageOrientationPatient": list(SAGITTAL)}, r"mixed orientation: 04.dcm at -10 mm has 0\1\0\0\0\-1, the"),
        ({"PixelSpacing": [2, 1.1]}, "mixed pixel spacing: 04.dcm at 42 mm has 2 x 1.1, the other 5 have 2 x 1."),
        ({"Rows": 5, "Columns": 4}, "mixed size: 04.dcm at 42 mm has 5 x 4, the other 5 have 4 x 5."),
    ],
)
def test_mixed_slices_are_named(files: list[Path], change: dict[str, object], what: str) -> None:
    edit(files[4], **change)
    assert what in refused(files[0].parent)


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", np.repeat(VOLUME, 3, 2))
    for path in files[:7]:
        edit(path, PixelSpacing=[3, 3])
    message = refused(tmp_path / "ct")
    assert "03.dcm at 39 mm has 3 x 3 and 3 more, the other 11 have" in message
    assert "04.dcm" not in message


def test_a_tilted_gantry(files: list[Path]) -> None:
    for k, path in enumerate(files):
        edit(path, ImagePositionPatient=[10, 20 + 0.8 * k, 30 + 3 * k])
    message = refused(files[0].parent)
    assert "at an angle of 15 degrees (00.dcm at 30 mm to 05.dcm at 45 mm), as with a tilted gantry" in message


def test_a_slice_beside_the_stack(files: list[Path]) -> None:
    edit(files[2], ImagePositionPatient=[10.05, 20, 36])
    assert read_series(files[0].parent).shape == VOLUME.shape
    edit(files[2], ImagePositionPatient=[11, 20, 36])
    assert "02.dcm at 36 mm lie up to 1 mm beside the stack of the others" in refused(files[0].parent)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ImagePositionPatient": None}, "03.dcm: has no ImagePositionPatient, without which"),
        ({"NumberOfFrames": 4}, "03.dcm: holds several frames"),
        ({"SamplesPerPixel": 3}, "03.dcm: is a colour picture"),
    ],
)
def test_images_without_a_place(files: list[Path], change: dict[str, object], what: str) -> None:
    edit(files[3], **change)
    assert what in refused(files[0].parent)


def test_directions_that_are_not_perpendicular(files: list[Path]) -> None:
    for path in files:
        edit(path, ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0])
    assert "orientation 1/0/0/0.6/0.8/0 is no pair of perpendicular directions" in refused(files[0].parent)


def test_folders_without_a_series(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: holds no DICOM image" in refused(tmp_path / "empty")
    (tmp_path / "file.dcm").touch()
    assert "file.dcm: is no folder" in refused(tmp_path / "file.dcm")


def test_order_is_along_the_normal_not_along_an_axis() -> None:
    """In sagittal slices with rows to the back and columns down, the normal points to the right: -x."""
    slices = [DicomSlice(Path(f"{x}"), "", (x, 0.0, 0.0), SAGITTAL, (1.0, 1.0), (8, 8)) for x in (1.0, 3.0, 2.0)]
    assert [one.position[0] for one in ordered_slices(slices, "ct")] == [3.0, 2.0, 1.0]
    assert at(slices[0]) == "1.0 at -1 mm"


@pytest.mark.realdata
def test_a_real_series_has_the_geometry_that_itk_gives_it(tmp_path: Path) -> None:
    folder = real_data("ct_dicom_seg") / "series"
    series = read_series(folder)
    original = itk.imread(sorted(str(path) for path in folder.iterdir())[::-1], itk.F)
    itk.imwrite(original, str(tmp_path / "same.nii"))
    same = nibabel.load(tmp_path / "same.nii")
    np.testing.assert_array_equal(series.voxels(), np.asarray(same.dataobj))
    np.testing.assert_allclose(series.affine, same.affine, atol=1e-4)
    assert series.shape == (512, 512, 3)
    assert [one.path.name for one in series.slices] == ["03.dcm", "02.dcm", "01.dcm"]


@pytest.mark.realdata
def test_real_series_that_were_damaged(tmp_path: Path) -> None:
    source = real_data("ct_dicom_seg") / "series"
    for name in ("gap", "twice", "mixed"):
        shutil.copytree(source, tmp_path / name)
    edit(tmp_path / "gap/01.dcm", ImagePositionPatient=[-235.199997, -226.800003, -125.690002])
    assert "02.dcm at -127.69 mm and 01.dcm at -125.69 mm are 2 mm apart (1 slice is" in refused(tmp_path / "gap")
    shutil.copy(tmp_path / "twice/02.dcm", tmp_path / "twice/02b.dcm")
    assert "02.dcm, 02b.dcm at -127.69 mm" in refused(tmp_path / "twice")
    edit(tmp_path / "mixed/03.dcm", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert r"mixed orientation: 03.dcm at -226.8 mm has 1\0\0\0\0\-1, the other 2 have 1\0\0\0\1\0" in refused(
        tmp_path / "mixed"
    )
