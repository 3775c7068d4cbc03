"""Reading: every format gives the values that were written, on the axes and at the places of the file."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from dicom_files import write_series
from PIL import Image

from monai_noisylabel.data.read_image import read_image, read_label

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)  # height 5, width 7
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(path: Path, array: np.ndarray) -> str:
    Image.fromarray(array).save(path)
    return str(path)


def itk_volume(array_zyx: np.ndarray) -> itk.Image:
    """Volume with voxels of 1 x 2 x 3 mm and its first voxel at (10, 20, 30) in DICOM's coordinates."""
    volume = itk.image_from_array(array_zyx)
    volume.SetSpacing([1.0, 2.0, 3.0])
    volume.SetOrigin([10.0, 20.0, 30.0])
    return volume


# In DICOM's coordinates x runs to the left and y to the back; in MONAI's both run the other way.
AFFINE_OF_ITK_VOLUME = np.array([[-1.0, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp"])
def test_grey_pictures_have_the_horizontal_axis_first(tmp_path: Path, suffix: str) -> None:
    image = read_image(saved(tmp_path / f"a{suffix}", GREY), 1)
    assert image.shape == (1, 7, 5)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image[0], GREY.T)
    np.testing.assert_array_equal(image.affine, np.eye(4))


def test_jpeg(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.jpg", np.full((8, 16), 90, np.uint8)), 1)
    assert image.shape == (1, 16, 8)
    np.testing.assert_allclose(image, 90, atol=1)


def test_16_bit_png_keeps_its_range(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", np.array([[0, 4095], [65535, 7]], np.uint16)), 1)
    assert image[0].T.tolist() == [[0, 4095], [65535, 7]]


def test_colour_becomes_luminance_where_one_channel_is_wanted(tmp_path: Path) -> None:
    # 0.299 * 100 + 0.587 * 200 + 0.114 * 50 = 29.9 + 117.4 + 5.7 = 153
    pixel = np.broadcast_to(np.array([100, 200, 50], np.uint8), (2, 2, 3))
    np.testing.assert_allclose(read_image(saved(tmp_path / "a.png", pixel.copy()), 1), 153, atol=1e-4)
    grey_as_colour = np.stack([GREY] * 3, -1)
    np.testing.assert_allclose(read_image(saved(tmp_path / "b.png", grey_as_colour), 1)[0], GREY.T, atol=1e-4)


def test_three_channels(tmp_path: Path) -> None:
    opaque = np.concatenate([COLOUR, np.full((5, 7, 1), 255, np.uint8)], -1)
    for name, array in (("rgb.png", COLOUR), ("rgba.png", opaque)):
        np.testing.assert_array_equal(read_image(saved(tmp_path / name, array), 3), COLOUR.transpose(2, 1, 0))
    grey = read_image(saved(tmp_path / "grey.png", GREY), 3)
    np.testing.assert_array_equal(grey, np.stack([GREY.T] * 3))


def test_palette_picture_is_seen_in_its_colours_as_image_and_by_its_indices_as_label(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png"), 3)[:, 1, 0].tolist() == [255, 0, 0]
    assert read_label(str(tmp_path / "a.png"))[0].T.tolist() == [[0, 1], [2, 1]]
    assert read_label(str(tmp_path / "a.png"), coloured=True)[0, 1].tolist() == [255 * 65536, 255 * 65536]


def test_nifti(tmp_path: Path) -> None:
    array, affine = RNG.integers(-900, 900, (3, 4, 5)).astype(np.int16), np.diag([-2.0, 3, 4, 1])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    image = read_image(str(tmp_path / "a.nii.gz"), 1)
    np.testing.assert_array_equal(image[0], array)
    np.testing.assert_array_equal(image.affine, affine)
    assert set(image.meta) == {"affine", "original_affine", "spatial_shape", "space", "filename_or_obj"}
    nibabel.save(nibabel.Nifti1Image(np.stack([array, -array], -1), affine), tmp_path / "b.nii")
    np.testing.assert_array_equal(read_image(str(tmp_path / "b.nii"), 2), np.stack([array, -array]))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_metaimage(tmp_path: Path, suffix: str) -> None:
    array = RNG.integers(-900, 900, (3, 4, 5)).astype(np.int16)
    itk.imwrite(itk_volume(array), str(tmp_path / f"a{suffix}"))
    image = read_image(str(tmp_path / f"a{suffix}"), 1)
    np.testing.assert_array_equal(image[0], array.T)
    np.testing.assert_allclose(image.affine, AFFINE_OF_ITK_VOLUME)


@pytest.fixture
def series(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Folder of a DICOM CT series whose stored values are HU + 1024, its files named against their order."""
    hu = RNG.integers(-900, 900, (3, 4, 5)).astype(np.int16)
    folder = tmp_path / "series"
    for number, path in enumerate(write_series(folder, hu.T)):
        path.rename(folder / f"{9 - number}.dcm")
    return folder, hu


def test_dicom_series_in_hounsfield_units_and_in_order(series: tuple[Path, np.ndarray]) -> None:
    folder, hu = series
    image = read_image(str(folder), 1)
    np.testing.assert_array_equal(image[0], hu.T)
    np.testing.assert_allclose(image.affine, AFFINE_OF_ITK_VOLUME)
    assert "Nobody" not in str(image.meta)


def test_a_single_dicom_file_needs_no_suffix(series: tuple[Path, np.ndarray]) -> None:
    folder, hu = series
    (folder / "9.dcm").rename(folder / "IM0001")
    np.testing.assert_array_equal(read_image(str(folder / "IM0001"), 1)[0, ..., 0], hu[0].T)


def test_several_files_become_channels(tmp_path: Path) -> None:
    files = [saved(tmp_path / "t1.png", GREY), saved(tmp_path / "t2.tif", 255 - GREY)]
    np.testing.assert_array_equal(read_image(files, 2), np.stack([GREY.T, 255 - GREY.T]))
    np.testing.assert_array_equal(read_label(files), np.stack([GREY.T, 255 - GREY.T]))


def test_colour_label(tmp_path: Path) -> None:
    colours = np.array([[[0, 255, 0], [125, 255, 12]]], np.uint8)
    file = saved(tmp_path / "a.png", colours)
    assert read_label(file, coloured=True).flatten().tolist() == [0x00FF00, 0x7DFF0C]
    with pytest.raises(ValueError, match=r"a.png: a label file has one channel, this one has 3 that differ"):
        read_label(file)
    alpha = np.stack([GREY, GREY, GREY, np.full_like(GREY, 9)], -1)
    np.testing.assert_array_equal(read_label(saved(tmp_path / "b.png", alpha))[0], GREY.T)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone.nii.gz: does not exist"):
        read_image(str(tmp_path / "gone.nii.gz"))
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(ValueError, match=r"notes.docx: unknown format; known are .nii"):
        read_image(str(tmp_path / "notes.docx"))
    nibabel.save(nibabel.Nifti1Image(RNG.random((20, 20, 20)), np.eye(4)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.nii.gz: cannot be read \(EOFError"):
        read_image(str(tmp_path / "a.nii.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no DICOM image"):
        read_image(str(tmp_path / "empty"))
    first, second = Image.fromarray(GREY), Image.fromarray(GREY)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=r"pages.tif: cannot be read \(ValueError: it has 2 pages"):
        read_image(str(tmp_path / "pages.tif"))


def test_wrong_channels_are_named(tmp_path: Path) -> None:
    files = [saved(tmp_path / "a.png", GREY), saved(tmp_path / "b.png", GREY)]
    with pytest.raises(ValueError, match=r"a.png.*has 2 channel\(s\), but the manifest says channels = 1"):
        read_image(files, 1)
    with pytest.raises(ValueError, match=r"c.png.*has 3 channel\(s\), but the manifest says channels = 2"):
        read_image(saved(tmp_path / "c.png", COLOUR), 2)
    with pytest.raises(ValueError, match="needs at least one file, got an empty list"):
        read_image([], 1)
    other = saved(tmp_path / "d.png", GREY[:2])
    with pytest.raises(ValueError, match=r"d.png: shape \(1, 7, 2\) differs from .*a.png: \(1, 7, 5\)"):
        read_label([files[0], other])
