"""DICOM segmentations read on the grid of the series that they were drawn on."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels
from pydicom.uid import SegmentationStorage

from monai_noisylabel.data.dicom_series import DicomSeries
from monai_noisylabel.data.dicom_slices import UNEVEN, DicomError, at, named, slice_step

__all__ = ["DicomRules", "DicomSeg", "is_dicom_seg", "open_seg", "seg_values"]

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
OTHER_FORMATS = (".gz", ".nii", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".nrrd", ".nhdr", ".mha", ".mhd")
IN_FRAME = 0.5
"""Fraction from which a pixel of a fractional segmentation belongs to its segment."""

Frame = tuple[int, int, np.ndarray]
"""Number of a segment, index of a slice, and which of its pixels (columns, rows) belong to the segment."""


@dataclass(frozen=True)
class DicomRules:
    """How the DICOM files of a dataset are read.

    Args:
        series: which series of a folder that holds several, see
            :func:`~monai_noisylabel.data.dicom_series.read_series`.
        named: label value by SegmentLabel; empty: a segment's number is its value.
        ignored: values that count as background; their segments are not read.
        overlap: whether structures may overlap.
        parts: structures of one file that may overlap, each of which becomes a file of its own when written anew.
    """

    series: str | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    ignored: frozenset[int] = frozenset({0})
    overlap: bool = False
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DicomSeg:
    """A segmentation, each of whose frames has its place in a series.

    Args:
        path: the file.
        series: the series.
        labels: SegmentLabel by SegmentNumber.
        dataset: the content of the file.
        planes: for each frame, the index of its slice.
    """

    path: Path
    series: DicomSeries
    labels: dict[int, str]
    dataset: pydicom.Dataset
    planes: tuple[int, ...]

    def frames(self) -> Iterator[Frame]:
        """What the frames show; only one is held in memory at a time."""
        kind = str(self.dataset.SegmentationType)
        whole = float(self.dataset.get("MaximumFractionalValue") or 1)
        for index, pixels in enumerate(self._pixels()):
            plane = pixels.T
            if kind == "LABELMAP":
                for number in np.unique(plane[plane != 0]).tolist():
                    yield number, self.planes[index], plane == number
            else:
                number = _of_frame(self.dataset, index, "SegmentIdentificationSequence").ReferencedSegmentNumber
                inside = plane >= IN_FRAME * whole if kind == "FRACTIONAL" else plane != 0
                yield int(number), self.planes[index], inside

    def _pixels(self) -> Iterator[np.ndarray]:
        """Frames (rows, columns) as they are stored."""
        rows, columns, count = (int(self.dataset[name].value) for name in ("Rows", "Columns", "NumberOfFrames"))
        try:
            if self.dataset.BitsAllocated == 1 and rows * columns % 8:  # pydicom 3.0 cuts such frames at whole bytes
                yield from self.dataset.pixel_array.reshape(count, rows, columns)
            else:
                yield from iter_pixels(self.dataset)
        except Exception as error:  # whatever a damaged file does to the decoder
            text = f"{type(error).__name__}: {error}"
            raise DicomError(f"{self.path}: its pixels cannot be read ({text}). Restore it.") from error

    def values(self, rules: DicomRules) -> dict[int, int]:
        """Label value of each segment that is read, by its number.

        Raises:
            DicomError: if segments go by their labels and one is not named.
        """
        unknown = [f"{number} {label!r}" for number, label in self.labels.items() if label not in rules.named]
        if rules.named and unknown:
            raise DicomError(
                f"{self.path}: dicom.segments of the manifest does not name the segments {named(unknown)}; it names "
                f"{named(list(rules.named))}. Add them, with 0 for what is to be left out."
            )
        values = {number: rules.named.get(label, number) for number, label in self.labels.items()}
        return {number: value for number, value in values.items() if value not in rules.ignored}


def is_dicom_seg(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a DICOM segmentation, by its header."""
    file = Path(path)
    if file.name.lower().endswith(OTHER_FORMATS):
        return False
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError, EOFError):
        return False
    return header.get("SOPClassUID") in (SegmentationStorage, LABEL_MAP_STORAGE)


def open_seg(path: str | os.PathLike[str], series: DicomSeries) -> DicomSeg:
    """Read a segmentation and find the slice of each of its frames.

    A frame belongs to the slice at its position; where it names the image it was drawn on, that must be the same
    slice. A segmentation of another series is taken if it shares the series' frame of reference and its grid.

    Args:
        path: the file: a binary, fractional or label map segmentation.
        series: the series.

    Raises:
        DicomError: if the file cannot be read, lies on another grid, or belongs to other images.
    """
    file = Path(path)
    try:
        dataset = pydicom.dcmread(file)
        labels = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in dataset.SegmentSequence}
        frames = range(int(dataset.NumberOfFrames))
        sources = [_sources(dataset, index) for index in frames]
        _check_series(dataset, sources, file, series)
        _check_grid(dataset, file, series)
        planes = tuple(_plane(dataset, index, sources[index], file, series) for index in frames)
    except DicomError:
        raise
    except Exception as error:  # whatever a damaged file does to the reader
        raise DicomError(f"{file}: is no complete DICOM SEG ({type(error).__name__}: {error}). Restore it.") from error
    return DicomSeg(file, series, {n: label for n, label in labels.items() if n}, dataset, planes)


def seg_values(seg: DicomSeg, rules: DicomRules, classes: Sequence[Sequence[int] | None] | None = None) -> np.ndarray:
    r"""Label values of a segmentation.

    Args:
        seg: the segmentation.
        rules: what its segments stand for.
        classes: values of each class, None for everything that is not 0: classes may overlap, and each gets a channel
            of its own. Without, there is one channel, and segments of different values may not overlap.

    Shape:
        Result (1, \*S), or (K, \*S) for K classes; \*S are columns, rows and slices of the series; int32.

    Raises:
        DicomError: if segments overlap although they may not; the message names them and the slices.
    """
    values = seg.values(rules)
    result = np.zeros((1 if classes is None else len(classes), *seg.series.shape), np.int32)
    overlaps: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for number, plane, inside in seg.frames():
        value = values.get(number)
        if value is None:
            continue
        if classes is None:
            here = result[0, ..., plane]
            for other in np.unique(here[inside & (here != 0) & (here != value)]).tolist():
                overlaps[min(other, value), max(other, value)][plane] = int(np.count_nonzero(inside & (here == other)))
            here[inside] = value
        else:
            for channel in (k for k, wanted in enumerate(classes) if wanted is None or value in wanted):
                result[channel, ..., plane][inside] = value
    if overlaps:
        raise DicomError(_overlapping(seg, values, overlaps))
    return result


def _overlapping(
    seg: DicomSeg, values: Mapping[int, int], overlaps: Mapping[tuple[int, int], Mapping[int, int]]
) -> str:
    """Which segments overlap in which slices."""
    names: dict[int, list[str]] = defaultdict(list)
    for number, value in values.items():
        names[value].append(f"{seg.labels[number]!r} ({number})")
    found = []
    for (one, other), planes in sorted(overlaps.items()):
        where = named([f"slice {k} ({at(seg.series.slices[k])}): {n} pixels" for k, n in sorted(planes.items())])
        found.append(f"{' or '.join(names[one])} and {' or '.join(names[other])} in {where}")
    return (
        f"{seg.path}: segments overlap, but the classes of the manifest exclude each other: {'; '.join(found)}. Mend "
        'the segmentation; or set task to "multi_label", where structures may overlap; or leave one of them out, as '
        "background."
    )


def _of_frame(dataset: pydicom.Dataset, index: int, name: str) -> Any:
    """The item of a sequence that belongs to a frame, or to all of them."""
    for group in (dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")):
        if group and (items := group[index if len(group) > 1 else 0].get(name)):
            return items[0]
    raise DicomError(f"its frame {index + 1} has no {name}")


def _sources(dataset: pydicom.Dataset, index: int) -> set[str]:
    """SOPInstanceUIDs of the images that a frame says it was drawn on."""
    frame = dataset.PerFrameFunctionalGroupsSequence[index]
    return {
        str(image.ReferencedSOPInstanceUID)
        for derivation in frame.get("DerivationImageSequence") or ()
        for image in derivation.get("SourceImageSequence") or ()
    }


def _check_series(dataset: pydicom.Dataset, sources: Sequence[set[str]], file: Path, series: DicomSeries) -> None:
    frame = str(dataset.get("FrameOfReferenceUID", ""))
    own = {one.uid for one in series.slices}
    if not any(own & names for names in sources) and (not frame or frame != series.frame_of_reference):
        other = [str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()]
        raise DicomError(
            f"{file}: segments another series ({named(other) or 'not named'}) with another frame of reference than "
            f"{series.folder} ({series.uid}). Put the segmentation of this series there."
        )


def _check_grid(dataset: pydicom.Dataset, file: Path, series: DicomSeries) -> None:
    first = series.slices[0]
    orientation = _of_frame(dataset, 0, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = _of_frame(dataset, 0, "PixelMeasuresSequence").PixelSpacing
    for what, found, wanted, tolerance in (
        ("rows and columns", (dataset.Rows, dataset.Columns), first.size, 0.0),
        ("pixel spacing", spacing, first.spacing, 1e-3),
        ("orientation", orientation, first.orientation, 1e-3),
    ):
        if not np.allclose(np.asarray(found, float), wanted, rtol=0, atol=tolerance):
            raise DicomError(
                f"{file}: its {what}, {list(map(float, found))}, differ from {series.folder}, {list(wanted)}. "
                "Resample the segmentation to the images it is of."
            )


def _plane(dataset: pydicom.Dataset, index: int, sources: set[str], file: Path, series: DicomSeries) -> int:
    """Index of the slice that a frame belongs to."""
    position = np.asarray(_of_frame(dataset, index, "PlanePositionSequence").ImagePositionPatient, float)
    step = slice_step(series.slices)
    first = np.asarray(series.slices[0].position)
    nearest = int(np.clip(np.rint((position - first) @ step / (step @ step)), 0, len(series.slices) - 1))
    found = series.slices[nearest]
    tolerance = UNEVEN * min(*found.spacing, float(np.linalg.norm(step)))
    if np.linalg.norm(position - found.position) > tolerance:
        raise DicomError(
            f"{file}: its frame {index + 1} lies at {[round(float(mm), 3) for mm in position]} mm, where "
            f"{series.folder} has no slice; the nearest is {at(found)}. Add the slice, or take it out of the "
            "segmentation."
        )
    drawn_on = [k for k, one in enumerate(series.slices) if one.uid in sources]
    if drawn_on and nearest not in drawn_on:
        raise DicomError(
            f"{file}: its frame {index + 1} lies at {at(found)}, but says that it was drawn on "
            f"{at(series.slices[drawn_on[0]])}. Export the segmentation again."
        )
    return nearest
