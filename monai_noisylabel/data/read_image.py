"""Reading of image and label files of many formats as channel-first MetaTensors with little metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader, PILReader
from monai.transforms import EnsureChannelFirst
from PIL import Image

from monai_noisylabel.data.dicom_series import read_series

__all__ = ["image_stem", "placed", "read_image", "read_label", "stacked"]

NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ITK = (".dcm", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd")
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def image_stem(name: str) -> str:
    """Name of a file without the ending of a known format.

    Example:
        >>> image_stem("ann_1.5mm.nii.gz"), image_stem("series")
        ('ann_1.5mm', 'series')
    """
    endings = [ending for ending in (*NIFTI, *PICTURES, *ITK) if name.lower().endswith(ending)]
    return name[: -max(map(len, endings))] if endings else name


def read_image(path: str | Sequence[str], channels: int | None = None, series: str | None = None) -> MetaTensor:
    r"""Read an image: NIfTI, DICOM (a file or the folder of a series), NRRD, MetaImage, PNG, JPEG, BMP, TIFF.

    A folder is read by :func:`~monai_noisylabel.data.dicom_series.read_series`, which refuses what makes no regular
    volume.

    Of the file's metadata only geometry and name are kept, so that cases of different origin can share a
    batch and no patient data of a DICOM header travels along.

    Args:
        path: file or DICOM series folder; several files become the channels of one image.
        channels: wanted number of channels. Colour becomes luminance (ITU-R BT.601) for 1, grey is repeated
            for 3, a channel of transparency is dropped; None leaves the channels as they are.
        series: which series of a folder that holds several.

    Shape:
        Result (C, H, W) or (C, H, W, D), float32; pictures have the horizontal axis first, as MONAI reads
        them.

    Raises:
        ValueError: if a file is of no known format, cannot be read, or has other channels than wanted.
    """
    if not isinstance(path, str):
        image = stacked([_read(file, "image", series) for file in path])
    else:
        image = _read(path, "image", series)
        if channels in (1, 3):
            image = _replaced(image, _with_colours(image.as_tensor(), channels))
    if channels not in (None, image.shape[0]):
        raise ValueError(f"{path}: has {image.shape[0]} channel(s), but the manifest says channels = {channels}.")
    return image


def read_label(path: str | Sequence[str], coloured: bool = False) -> MetaTensor:
    r"""Read a label file, or those of several structures as one channel each, with the values in the files.

    Args:
        path: file, folder of one DICOM series, or several of them. A palette PNG gives its indices.
        coloured: whether colours are the values: ``red * 65536 + green * 256 + blue``. Otherwise a colour
            picture is read as grey, which its channels must agree on.

    Shape:
        Result (1, \*S), or (number of files, \*S); float32.

    Raises:
        ValueError: if a file is of no known format, cannot be read, has channels that differ, or another
            shape than the first one.
    """
    if not isinstance(path, str):
        return stacked([read_label(file, coloured) for file in path])
    label = _read(path, "colours" if coloured else "values")
    values = label.as_tensor()
    if len(values) in (2, 4):
        values = values[:-1]  # transparency
    if coloured and len(values) == 3:
        return _replaced(label, values[:1] * 65536 + values[1:2] * 256 + values[2:])
    if not bool((values == values[:1]).all()):
        raise ValueError(
            f"{path}: a label file has one channel, this one has {len(values)} that differ; "
            "write class values into one channel, or one file per structure."
        )
    return _replaced(label, values[:1])


def _read(file: str, role: Literal["image", "values", "colours"], series: str | None = None) -> MetaTensor:
    path = Path(file)
    if not path.exists():
        raise ValueError(f"{file}: does not exist.")
    if path.is_dir():
        volume = read_series(path, series)
        return placed(volume.voxels()[None], volume.affine, file)
    reader = _reader(path, role)
    try:
        array, found = reader.get_data(reader.read(file))
    except Exception as error:  # readers raise errors of many kinds, few of which name the file
        raise ValueError(f"{file}: cannot be read ({type(error).__name__}: {error}).") from error
    affine = np.asarray(found.get("affine", np.eye(4)), dtype=float)
    values = torch.tensor(np.asarray(array, dtype=np.float32))
    channels = np.asarray(EnsureChannelFirst()(values, meta_dict=found))
    return placed(channels, affine, file)


def placed(channels: np.ndarray, affine: np.ndarray, file: str) -> MetaTensor:
    r"""Voxels of a file with what is kept of its metadata.

    Args:
        channels: the voxels.
        affine: voxel index to world (RAS), 4x4.
        file: name of the file.

    Shape:
        channels and result (C, \*S), float32.
    """
    meta = {
        "affine": torch.tensor(affine),
        "original_affine": affine,
        "spatial_shape": np.asarray(channels.shape[1:], dtype=int),
        "space": "RAS",
        "filename_or_obj": file,
    }
    return MetaTensor(torch.tensor(np.ascontiguousarray(channels, np.float32)), meta=meta)


def _replaced(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    return MetaTensor(values, meta=image.meta)


def stacked(channels: list[MetaTensor]) -> MetaTensor:
    """The channels of several files as one image; ValueError if their shapes differ."""
    if not channels:
        raise ValueError("A case needs at least one file, got an empty list.")
    first = channels[0]
    for other in channels[1:]:
        if other.shape != first.shape:
            raise ValueError(
                f"{other.meta['filename_or_obj']}: shape {tuple(other.shape)} differs from "
                f"{first.meta['filename_or_obj']}: {tuple(first.shape)}."
            )
    return _replaced(first, torch.cat([channel.as_tensor() for channel in channels]))


def _with_colours(image: torch.Tensor, channels: int) -> torch.Tensor:
    """Grey or colour image with 1 or 3 channels where that is possible."""
    if len(image) == 1:
        return image.repeat(channels, *[1] * (image.ndim - 1))
    colour = image[:3] if len(image) == 4 else image
    if channels == 1 and len(colour) == 3:
        weights = torch.tensor(LUMINANCE).view(3, *[1] * (image.ndim - 1))
        return (colour * weights).sum(0, keepdim=True)
    return colour if len(colour) == channels else image


def _reader(path: Path, role: Literal["image", "values", "colours"]) -> ImageReader:
    name = path.name.lower()
    if name.endswith(NIFTI):
        return NibabelReader()
    if name.endswith(PICTURES):
        return PILReader(converter={"image": _grey_or_colour, "values": _one_page, "colours": _colour}[role])
    if name.endswith(ITK) or "." not in name:  # DICOM files often have no suffix
        return ITKReader()
    known = ", ".join((*NIFTI, *PICTURES, *ITK))
    raise ValueError(f"{path}: unknown format; known are {known} and folders of a DICOM series.")


def _one_page(picture: Image.Image) -> Image.Image:
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        raise ValueError(f"it has {pages} pages; a volume must be NIfTI, NRRD or DICOM")
    return picture


def _colour(picture: Image.Image) -> Image.Image:
    return _one_page(picture).convert("RGB")


def _grey_or_colour(picture: Image.Image) -> Image.Image:
    mode = _one_page(picture).mode
    if mode in ("1", "LA", "La"):
        return picture.convert("L")
    return picture.convert("RGB") if mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB") else picture
