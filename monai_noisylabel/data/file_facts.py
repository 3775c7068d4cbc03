"""What a dataset check needs to know about one file, found in a single complete read."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from monai_noisylabel.data.dicom_seg import DicomRules, open_seg, seg_values
from monai_noisylabel.data.dicom_series import read_series

__all__ = ["FileFacts", "image_facts", "is_picture", "label_facts", "read_array", "seg_facts"]

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PNG_END = b"IEND\xaeB`\x82"
MAX_LABEL_VALUES = 64


@dataclass(frozen=True)
class FileFacts:
    """Facts about an image or label file.

    Args:
        error: why the file could not be read; None when it could.
        shape: voxels per spatial axis.
        channels: channels per voxel.
        affine: voxel to world matrix (4, 4) as nested lists; None for pictures.
        finite: whether no intensity is NaN or infinite.
        low: smallest finite intensity.
        high: largest finite intensity.
        values: distinct values of a label, ascending, at most 65 of them; None for images.
        fractional: an example of a label value that is no whole number.
        slices: per label value above 0 the runs [start, stop) of slices that hold it, along the last axis
            after orientation; empty for pictures.
    """

    error: str | None = None
    shape: tuple[int, ...] = ()
    channels: int = 1
    affine: list[list[float]] | None = None
    finite: bool = True
    low: float = 0.0
    high: float = 0.0
    values: tuple[int, ...] | None = None
    fractional: float | None = None
    slices: dict[int, list[tuple[int, int]]] | None = None

    def slices_with(self, values: Sequence[int] | None) -> list[int]:
        """Slices that hold at least one of the values; with None, any value above 0."""
        runs = self.slices or {}
        wanted = runs if values is None else [value for value in values if value in runs]
        return sorted({k for value in wanted for start, stop in runs[value] for k in range(start, stop)})

    def slice_count(self, orientation: str | None) -> int:
        """Number of slices of a volume along the last axis after orientation."""
        affine = None if self.affine is None else np.array(self.affine)
        return self.shape[_slice_axis(affine, orientation)[0]]


def is_picture(path: str | Path) -> bool:
    """Whether a file is a two-dimensional picture (PNG, JPEG, TIFF, BMP) and not a medical volume."""
    return str(path).lower().endswith(PICTURES)


def read_array(path: Path, as_colour: bool = False, series: str | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a file to its last byte.

    NIfTI is read with the checksum of its compression, PNG with those of its parts, a folder as
    :func:`~monai_noisylabel.data.dicom_series.read_series` does; everything else (NRRD, MetaImage, a DICOM file) by
    MONAI's ITK reader.

    Args:
        path: file, or folder of one DICOM series.
        as_colour: whether a picture is turned into red, green and blue, whatever it is stored as.
        series: which DICOM series of a folder that holds several.

    Returns:
        Intensities with spatial axes first and a channel axis, where there is one, last; affine to RAS
        millimetres (None for pictures).

    Raises:
        Exception: whatever the reader finds wrong with the file.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        content = path.read_bytes()
        content = gzip.decompress(content) if name.endswith(".gz") else content
        big = int.from_bytes(content[:4], "little") == 540 or int.from_bytes(content[:4], "big") == 540
        volume = (nibabel.Nifti2Image if big else nibabel.Nifti1Image).from_bytes(content)
        return np.asanyarray(volume.dataobj), _checked(volume.affine)
    if is_picture(path):
        if name.endswith(".png"):
            with Image.open(path) as picture:
                picture.verify()
            if PNG_END not in path.read_bytes():
                raise ValueError("it is truncated: the end of the PNG is missing")
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError("it has several pages; write a volume as NIfTI, NRRD or DICOM")
            return np.asarray(picture.convert("RGB") if as_colour else picture), None
    if path.is_dir():
        found = read_series(path, series)
        return found.voxels(), found.affine
    return _read_by_itk(path)


def _read_by_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from monai.data import ITKReader  # slow to import, and most datasets do not need it

    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(path)))
    return np.asarray(array), _checked(meta["affine"])


def image_facts(path: Path, series: str | None = None) -> FileFacts:
    """Facts about an image file; ``series``: which DICOM series of a folder that holds several."""
    array, affine = read_array(path, series=series)
    shape, channels = _spatial(array, path)
    if array.size == 0:
        raise ValueError("the image holds no voxels")
    finite = True
    if not np.issubdtype(array.dtype, np.integer) and array.dtype != bool:
        valid = np.isfinite(array)
        finite = bool(valid.all())
        array = array if finite else array[valid]
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    return FileFacts(None, shape, channels, _nested(affine), finite, low, high)


def label_facts(path: Path, orientation: str | None, coloured: bool) -> FileFacts:
    """Facts about a label file that is no DICOM SEG.

    Args:
        path: label file.
        orientation: axis codes that slices are counted in, such as "RAS"; None counts along the file's last
            axis.
        coloured: whether label values are colours, read as ``red * 65536 + green * 256 + blue``.
    """
    array, affine = read_array(path, as_colour=coloured)
    shape, channels = _spatial(array, path)
    single = _one_channel(array, len(shape), coloured)
    if single is None:
        return FileFacts(None, shape, channels, _nested(affine))
    array = single
    if np.issubdtype(array.dtype, np.floating):
        off = array[~np.isfinite(array) | (array != np.rint(array))]
        if off.size:
            return FileFacts(None, shape, 1, _nested(affine), fractional=float(off[0]))
        array = array.astype(np.int64)
    values = _distinct(array)
    slices: dict[int, list[tuple[int, int]]] = {}
    if len(shape) == 3 and len(values) <= MAX_LABEL_VALUES:
        axis, reverse = _slice_axis(affine, orientation)
        slices = {value: _runs(_present(array == value, axis), reverse) for value in values if value > 0}
    values = values[: MAX_LABEL_VALUES + 1]
    return FileFacts(None, shape, 1, _nested(affine), values=values, slices=slices)


def seg_facts(path: Path, image: Path, orientation: str | None, rules: DicomRules) -> FileFacts:
    """Facts about a DICOM segmentation as a label on the grid of its series; frame after frame, for it may be large.

    Args:
        path: the segmentation.
        image: folder of the series.
        orientation: as for :func:`label_facts`.
        rules: how DICOM files are read.

    Raises:
        DicomError: if it does not fit the series, or segments overlap although they may not.
    """
    series = read_series(image, rules.series)
    seg = open_seg(path, series)
    if not rules.overlap:
        seg_values(seg, rules)
    axis, reverse = _slice_axis(series.affine, orientation)
    values = seg.values(rules)
    present: dict[int, np.ndarray] = {}
    for number, plane, inside in seg.frames():
        if number in values and inside.any():
            here = present.setdefault(values[number], np.zeros(series.shape[axis], bool))
            if axis == 2:
                here[plane] = True
            else:
                here |= inside.any(1 - axis)
    slices = {value: _runs(here, reverse) for value, here in sorted(present.items())}
    return FileFacts(None, series.shape, 1, _nested(series.affine), values=(0, *slices), slices=slices)


def _spatial(array: np.ndarray, path: Path) -> tuple[tuple[int, ...], int]:
    """Spatial shape and number of channels."""
    spatial = 2 if is_picture(path) else 3
    shape = tuple(int(n) for n in array.shape)
    return shape[:spatial], int(np.prod(shape[spatial:], dtype=int))


def _one_channel(array: np.ndarray, spatial: int, coloured: bool) -> np.ndarray | None:
    """Label values without channel axis, None when channels differ; colours become numbers."""
    array = array.reshape(*array.shape[:spatial], -1)
    if spatial == 2 and array.shape[-1] in (2, 4):
        array = array[..., :-1]  # transparency
    if coloured and array.shape[-1] == 3:
        return np.asarray(array.astype(np.int64) @ (65536, 256, 1))
    same = array.shape[-1] == 1 or bool((array == array[..., :1]).all())
    return np.asarray(array[..., 0]) if same else None


def _distinct(array: np.ndarray) -> tuple[int, ...]:
    if array.dtype == bool or array.dtype == np.uint8:
        return tuple(int(v) for v in np.flatnonzero(np.bincount(array.ravel().view(np.uint8), minlength=256)))
    return tuple(int(v) for v in np.unique(array))


def _slice_axis(affine: np.ndarray | None, orientation: str | None) -> tuple[int, bool]:
    """The file's axis that becomes the last one after orientation, and whether it is reversed."""
    if affine is None or orientation is None:
        return 2, False
    transform = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    axis = int(np.flatnonzero(transform[:, 0] == 2)[0])
    return axis, bool(transform[axis, 1] < 0)


def _present(mask: np.ndarray, axis: int) -> np.ndarray:
    """Which slices along an axis hold a voxel of the mask."""
    return np.asarray(mask.any(axis=tuple(i for i in range(3) if i != axis)))


def _runs(present: np.ndarray, reverse: bool) -> list[tuple[int, int]]:
    """Runs [start, stop) of slices that hold something."""
    padded = np.pad(np.flip(present) if reverse else present, 1)
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _nested(affine: np.ndarray | None) -> list[list[float]] | None:
    return None if affine is None else [[float(x) for x in row] for row in affine]


def _checked(affine: np.ndarray) -> np.ndarray:
    affine = np.asarray(affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"its affine {affine[:3].tolist()} maps no volume to space")
    return affine
