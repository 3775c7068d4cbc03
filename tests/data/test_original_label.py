"""Label pictures written in the form of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_picture
from PIL import Image

from monai_noisylabel.data.original_label import read_original


@pytest.mark.parametrize(
    ("dtype", "original", "written", "mode"),
    [
        (np.uint8, "a.png", "b.png", "L"),
        (np.uint16, "a.png", "b.png", "I;16"),
        (np.uint16, "a.tif", "b.tif", "I;16"),
        (np.int32, "a.tiff", "b.tiff", "I"),
        (np.int32, "a.tif", "b.png", "L"),  # PNG has no 32 bits
        (np.float32, "a.tif", "b.TIF", "F"),
        (np.float32, "a.tif", "b.png", "L"),
        (np.bool_, "a.png", "b.png", "1"),
        (np.bool_, "a.bmp", "b.bmp", "1"),
    ],
)
def test_data_type_stays(tmp_path: Path, dtype: type, original: str, written: str, mode: str) -> None:
    label = read_original(write_picture(tmp_path / original, np.eye(3, 5).astype(dtype)))
    values = np.tri(5, 3, dtype=np.int32)
    label.write(values, tmp_path / written)
    with Image.open(tmp_path / written) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(np.asarray(picture), values.T)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values_above_255_need_16_bits_and_above_65535_another_format(tmp_path: Path, dtype: type) -> None:
    label = read_original(write_picture(tmp_path / "a.tif", np.eye(3, 5).astype(dtype)))
    label.write(np.full((5, 3), 65535), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.mode == "I;16"
        assert (np.asarray(picture) == 65535).all()
    with pytest.raises(ValueError, match=r"c.png: values up to 65536 do not fit into a picture; use NIfTI"):
        label.write(np.full((5, 3), 65536), tmp_path / "c.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.png"]


def test_values_above_255_leave_the_palette(tmp_path: Path) -> None:
    picture = Image.fromarray(np.eye(3, 5, dtype=np.uint8)).convert("P")
    picture.save(tmp_path / "a.png")
    label = read_original(tmp_path / "a.png")
    for highest, mode in ((255, "P"), (256, "I;16")):
        label.write(np.full((5, 3), highest), tmp_path / "b.png")
        with Image.open(tmp_path / "b.png") as written:
            assert written.mode == mode
            assert (np.asarray(written) == highest).all()


@pytest.mark.parametrize(("dtype", "mark"), [(np.uint8, 255), (np.uint16, 255), (np.bool_, 1)])
def test_mark_of_the_only_structure(tmp_path: Path, dtype: type, mark: int) -> None:
    assert read_original(write_picture(tmp_path / "a.png", np.zeros((3, 5), dtype))).mark == mark
