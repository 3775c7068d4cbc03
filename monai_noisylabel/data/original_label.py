"""A label file of the dataset: its values on its own grid, and a corrected version written as a new file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from monai_noisylabel.data.read_image import NIFTI, PICTURES, read_label
from monai_noisylabel.data.unfinished import unfinished

__all__ = ["ClassValues", "OriginalLabel", "held_by", "merged_values", "read_original"]


ClassValues = int | Sequence[int] | None
"""Value or values of a class in a label file; None stands for everything that is not 0."""

PIXELS = {"1": "bool", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32"}
"""Data types of Pillow's modes; all others have 8 bits."""


@dataclass(frozen=True)
class OriginalLabel:
    """Values of one label file, and what is needed to write others in its form.

    Args:
        path: the file.
        values: whole numbers; pictures have the horizontal axis first, as MONAI reads them; a colour is
            red * 65536 + green * 256 + blue.
        affine: voxel index to world (RAS), 4x4.
        nifti: the NIfTI image, for its header; None for other formats.
        pixel: data type of the pixels of a grey picture.
        palette: colours of a palette picture.
        coloured: whether the values are colours.
    """

    path: Path
    values: np.ndarray
    affine: np.ndarray
    nifti: nibabel.Nifti1Image | None = None
    pixel: str = "uint8"
    palette: Sequence[int] | None = None
    coloured: bool = False

    @property
    def suffix(self) -> str:
        """Extension of what :meth:`write` makes: ``.png`` for pictures, ``.nii.gz`` for everything else."""
        return ".png" if self.path.name.lower().endswith(PICTURES) else ".nii.gz"

    @property
    def mark(self) -> int:
        """Value that a file of this kind gives to its only structure: 255 in grey pictures, else 1."""
        return 255 if self.suffix == ".png" and self.palette is None and self.pixel != "bool" else 1

    def write(self, values: np.ndarray, target: Path) -> None:
        """Write other values in the form of this file; an existing target is replaced in one step.

        NIfTI keeps the header, affine and data type of the original; a picture keeps its palette and data type,
        as far as its format and the values allow.

        Args:
            values: values of the shape of :attr:`values`.
            target: path of the new file; its ending names the format: NIfTI, or for pictures one without loss.

        Raises:
            ValueError: if a picture cannot hold the values.
        """
        with unfinished(target) as draft:
            write = self._write_picture if self.suffix == ".png" else self._write_nifti
            write(values, draft)

    def _write_nifti(self, values: np.ndarray, path: Path) -> None:
        if self.nifti is None:
            smallest = np.uint8 if _fits(values, np.dtype(np.uint8)) else np.int32
            nibabel.save(nibabel.Nifti1Image(values.astype(smallest), self.affine), path)
            return
        header = self.nifti.header.copy()
        dtype: np.dtype = header.get_data_dtype()
        if np.issubdtype(dtype, np.integer) and not _fits(values, dtype):  # its header scales the original
            dtype = np.dtype(np.int32)
            header.set_data_dtype(dtype)
        data = values.reshape(self.nifti.shape).astype(dtype)
        nibabel.save(type(self.nifti)(data, self.nifti.affine, header), path)

    def _write_picture(self, values: np.ndarray, path: Path) -> None:
        pixels = values.T
        if self.coloured:
            picture = Image.fromarray(np.stack([pixels >> 16, pixels >> 8 & 255, pixels & 255], -1).astype(np.uint8))
        else:
            picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=self._pixel_type(values, path)))
            if self.palette is not None and picture.mode == "L":
                picture.putpalette(self.palette)
        picture.save(path)

    def _pixel_type(self, values: np.ndarray, path: Path) -> np.dtype:
        """Data type of the original if the format has it, else the smallest that holds the values."""
        only_tiff = self.pixel in ("int32", "float32") and not path.name.lower().endswith((".tif", ".tiff"))
        for dtype in map(np.dtype, ("uint8" if only_tiff else self.pixel, "uint16")):
            if dtype.kind in "bf" or _fits(values, dtype):
                return dtype
        raise ValueError(f"{path.name}: values up to {values.max()} do not fit into a picture; use NIfTI for labels.")


def read_original(path: str | os.PathLike[str], *, coloured: bool = False) -> OriginalLabel:
    """Read a label file: NIfTI, a picture, or what ITK reads.

    Args:
        path: the file; it is only read.
        coloured: whether a picture's classes are colours.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it holds anything but whole numbers, or several channels that differ although it is not
            coloured.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"The given label {file} does not exist.")
    name = file.name.lower()
    if name.endswith(NIFTI):
        nifti = nibabel.load(file)
        assert isinstance(nifti, nibabel.Nifti1Image)  # includes NIfTI-2
        shape = nifti.shape[:3] if nifti.shape[3:] == (1,) * (len(nifti.shape) - 3) else nifti.shape
        values = _whole(np.asanyarray(nifti.dataobj), file).reshape(shape)
        return OriginalLabel(file, values, nifti.affine, nifti)
    if name.endswith(PICTURES) and coloured:
        with Image.open(file) as picture:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(np.int32), -1, 0)
        return OriginalLabel(file, (red << 16 | green << 8 | blue).T, np.eye(4), coloured=True)
    label = read_label(str(file))
    original = OriginalLabel(file, _whole(label[0].numpy(), file), label.affine.numpy())
    if not name.endswith(PICTURES):
        return original
    with Image.open(file) as picture:
        palette = picture.getpalette() if picture.mode == "P" else None
        return replace(original, pixel=PIXELS.get(picture.mode, "uint8"), palette=palette)


def held_by(values: np.ndarray, class_values: ClassValues) -> np.ndarray:
    """Voxels of a label file that belong to a class.

    Example:
        >>> held_by(np.array([0, 5, 6]), (5, 7)).tolist(), held_by(np.array([0, 5, 6]), None).tolist()
        ([False, True, False], [False, True, True])
    """
    return values != 0 if class_values is None else np.isin(values, class_values)


def merged_values(given: np.ndarray, label: np.ndarray, classes: Sequence[ClassValues], mark: int) -> np.ndarray:
    r"""The values of a label file after correction.

    A voxel keeps its value where the correction agrees with it, says nothing about it, or says background
    where the file holds something that is none of the classes.

    Args:
        given: values in the file.
        label: corrected classes 0..K, 0 being background, and negative where nothing is said.
        classes: per class its value or values in the file, of which the first is written; None: everything
            not 0.
        mark: value written for a class whose values are None when the file holds it nowhere.

    Shape:
        all (\*S).

    Example:
        >>> merged_values(np.array([0, 5, 6, 7, 5]), np.array([1, 1, 0, 0, -1]), [(5, 6)], mark=1).tolist()
        [5, 5, 0, 7, 5]
    """
    result = given.copy()
    held = [held_by(given, values) for values in classes]
    result[np.any(held, axis=0) & (label == 0)] = 0
    for number, (values, here) in enumerate(zip(classes, held, strict=True), start=1):
        written = _commonest(given[here], mark) if values is None else int(np.ravel(values)[0])
        result[(label == number) & ~here] = written
    return result


def _commonest(values: np.ndarray, default: int) -> int:
    present, counts = np.unique(values, return_counts=True)
    return int(present[counts.argmax()]) if len(present) else default


def _whole(values: np.ndarray, file: Path) -> np.ndarray:
    whole = np.rint(np.nan_to_num(values)).astype(np.int32)
    if not np.allclose(whole, values, atol=1e-4):
        raise ValueError(f"The given label {file} holds values that are no whole numbers; is it an image?")
    return whole


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return bool(values.min() >= limits.min and values.max() <= limits.max)
