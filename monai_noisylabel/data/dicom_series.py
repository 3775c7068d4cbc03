"""A folder of DICOM files read as one volume: the series found by its headers, its voxels read by ITK."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from monai_noisylabel.data.dicom_slices import DicomError, DicomSlice, named, ordered_slices, slice_step

__all__ = ["DicomSeries", "read_series"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "FrameOfReferenceUID"),
    *("SamplesPerPixel", "NumberOfFrames", "SliceThickness", "SpacingBetweenSlices", *NEEDED),
]
NO_IMAGES = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "DOC", "FID", "RWV"})
"""Modalities of what lies beside the images of a series without being one."""
DICOM_ENDINGS = ("", ".dcm", ".ima", ".dicom")
KEPT_SERIES = 16


@dataclass(frozen=True)
class DicomSeries:
    """One series whose slices make a regular volume.

    Args:
        folder: where its files lie.
        uid: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID, the coordinate system; empty where the files name none.
        slices: in the order of their positions along their normal.
    """

    folder: Path
    uid: str
    frame_of_reference: str
    slices: tuple[DicomSlice, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        rows, columns = self.slices[0].size
        return columns, rows, len(self.slices)

    @property
    def affine(self) -> np.ndarray:
        """Index of column, row and slice to world (RAS, mm), 4x4."""
        first = self.slices[0]
        affine = np.eye(4)
        affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
        affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
        affine[:3, 2] = slice_step(self.slices)
        affine[:3, 3] = first.position
        return LPS_TO_RAS @ affine

    def voxels(self) -> np.ndarray:
        r"""Intensities, rescaled by slope and intercept of each slice: HU for CT.

        Shape:
            Result (columns, rows, slices), float32.

        Raises:
            DicomError: if a file is damaged, or compressed in a way that ITK does not know.
        """
        import itk  # slow to import, and most datasets do not need it

        files = [str(one.path) for one in self.slices]
        try:
            image = itk.imread(files, itk.F)
        except Exception as error:  # besides RuntimeError, those of ITK 5.4 in the course of reporting one
            raise DicomError(
                f"{self.folder}: cannot be read: {named(_unreadable(files))}. Restore what is damaged; if it is "
                "compressed in a way that ITK does not know, export it without compression."
            ) from error
        array: np.ndarray = itk.array_from_image(image)
        if array.shape != self.shape[::-1]:
            raise DicomError(f"{self.folder}: its voxels have the shape {array.shape[::-1]}, its headers {self.shape}.")
        return array.T


def read_series(folder: str | os.PathLike[str], wanted: str | None = None) -> DicomSeries:
    """Find the series in a folder, and prove from the headers that its slices make one regular volume.

    Passed over are hidden files, subfolders, a DICOMDIR, files of other formats, and DICOM objects that are no
    images, such as segmentations, structure sets and reports. A file that should be DICOM and is not is refused: a
    lost slice would go unnoticed at the end of a stack.

    The headers of a folder whose files have not changed are not read again.

    Args:
        folder: the folder.
        wanted: which series, where there are several: a regular expression that its whole SeriesDescription or
            SeriesInstanceUID matches.

    Raises:
        DicomError: if there is not exactly one such series, or :func:`ordered_slices` refuses its slices.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DicomError(f"{path}: is no folder. Give the folder of a DICOM series.")
    state = tuple(sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(path)))
    return _read_series(path, wanted, state)


@lru_cache(maxsize=KEPT_SERIES)
def _read_series(folder: Path, wanted: str | None, state: Sequence[object]) -> DicomSeries:
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    for path, header in _images(folder):
        found[str(header.get("SeriesInstanceUID", ""))].append((path, header))
    if not found:
        raise DicomError(f"{folder}: holds no DICOM image. Give the folder that the files of the series lie in.")
    uid = _chosen(folder, found, wanted)
    slices = [_slice(path, header) for path, header in found[uid]]
    frame = str(found[uid][0][1].get("FrameOfReferenceUID", ""))
    return DicomSeries(folder, uid, frame, ordered_slices(slices, folder))


def _images(folder: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """Files of a folder that hold an image, with their headers."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
            continue
        header = _header(path)
        if header is None or header.get("SOPClassUID") == MediaStorageDirectoryStorage:
            continue
        if header.get("Modality") not in NO_IMAGES:
            yield path, header


def _header(path: Path) -> pydicom.Dataset | None:
    """Header of a DICOM file; None for a file of another format."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
    except InvalidDicomError:  # without the mark that files have had since 1993
        if path.suffix.lower() not in DICOM_ENDINGS and not path.suffix[1:].isdigit():
            return None
    except Exception as error:  # whatever a damaged file does to the reader
        raise DicomError(f"{path}: cannot be read ({type(error).__name__}: {error}). Restore it.") from error
    header = None
    with contextlib.suppress(Exception):  # as above
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
    if header is None or "SOPClassUID" not in header:
        raise DicomError(
            f"{path}: is no DICOM file, or it is damaged. Restore it, or move it out of the folder of the series."
        )
    return header


def _chosen(folder: Path, found: Mapping[str, Sequence[tuple[Path, pydicom.Dataset]]], wanted: str | None) -> str:
    """SeriesInstanceUID of the series to read."""
    about = {uid: str(files[0][1].get("SeriesDescription", "")) for uid, files in found.items()}
    fits = [uid for uid, text in about.items() if wanted is None or any(re.fullmatch(wanted, t) for t in (text, uid))]
    if len(fits) == 1:
        return fits[0]
    listed = [
        f"{uid} ({about[uid] or 'no description'}, {files[0][1].get('Modality', '?')}, "
        f"{len(files)} {'file' if len(files) == 1 else 'files'})"
        for uid, files in found.items()
    ]
    which = "" if wanted is None else f", of which {len(fits)} match {wanted!r}"
    raise DicomError(
        f"{folder}: holds {len(found)} series{which}: {named(listed)}. Put each into a folder of its own, or name the "
        'one to read in the manifest, by its description or its UID: "dicom": {"series": "DESCRIPTION"}.'
    )


def _slice(path: Path, header: pydicom.Dataset) -> DicomSlice:
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DicomError(f"{path}: holds several frames. Convert it to single slices, or to NIfTI.")
    absent = [name for name in NEEDED if header.get(name) is None]
    if absent:
        raise DicomError(
            f"{path}: has no {', '.join(absent)}, without which a slice has no place. Restore it, or move it out of "
            "the folder of the series."
        )
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise DicomError(f"{path}: is a colour picture. Move it out of the folder of the series.")
    return DicomSlice(
        path,
        str(header.get("SOPInstanceUID", "")),
        tuple(map(float, header.ImagePositionPatient)),
        tuple(map(float, header.ImageOrientationPatient)),
        tuple(map(float, header.PixelSpacing)),
        (int(header.Rows), int(header.Columns)),
        abs(float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0)),
    )


def _unreadable(files: Sequence[str]) -> list[str]:
    """Names of the files that ITK cannot read."""
    import itk

    bad = []
    for file in files:
        try:
            itk.imread(file, itk.F)
        except Exception:  # as above
            bad.append(Path(file).name)
    return bad or ["the files as one volume"]
