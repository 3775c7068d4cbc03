"""Masks written as DICOM SEG, the form in which a PACS and viewers such as OHIF and 3D Slicer keep segmentations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from monai_noisylabel.data.dicom_series import DicomSeries
from monai_noisylabel.data.dicom_slices import DicomError
from monai_noisylabel.data.unfinished import unfinished

__all__ = ["SegmentInfo", "require_highdicom", "write_dicom_seg"]

NAME = "monai_noisylabel"
SERIES_NUMBER = 9100
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
HOW_TO_INSTALL = 'Writing DICOM SEG needs highdicom: pip install "monai_noisylabel[dicom]"'

Coded = tuple[str, str, str]
"""Code value, coding scheme and meaning."""

TISSUE: Coded = ("85756007", "SCT", "Tissue")


@dataclass(frozen=True)
class SegmentInfo:
    """How a segment is described in the file.

    Args:
        label: its name, which viewers show.
        category: code of its category.
        kind: code of what it is, more exactly.
        colour: CIELab colour as DICOM encodes it, that viewers may use.
    """

    label: str
    category: Coded = TISSUE
    kind: Coded = TISSUE
    colour: tuple[int, int, int] | None = None

    @classmethod
    def like(cls, item: pydicom.Dataset) -> SegmentInfo:
        """The description of a segment of another file."""
        category, kind = (
            _code(item.get(name))
            for name in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
        )
        colour = item.get("RecommendedDisplayCIELabValue")
        own = None if colour is None else (int(colour[0]), int(colour[1]), int(colour[2]))
        return cls(str(item.get("SegmentLabel") or item.SegmentNumber), category, kind, own)


def require_highdicom() -> ModuleType:
    """The library that writes DICOM SEG, an optional one.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how to install it.
    """
    try:
        import highdicom.color
        import highdicom.seg
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(HOW_TO_INSTALL) from error
    module: ModuleType = highdicom
    return module


def write_dicom_seg(
    masks: ArrayLike,
    series: DicomSeries,
    path: str | os.PathLike[str],
    segments: Sequence[SegmentInfo | str],
    *,
    description: str = "Segmentation for research",
    overwrite: bool = False,
) -> Path:
    r"""Write masks on the grid of a series as a binary DICOM SEG that refers to its images.

    Patient, study and frame of reference are those of the series; segments are numbered from 1 and may overlap; frames
    that are empty are left out. The file appears as a whole or not at all.

    Args:
        masks: one per segment; what is not 0 belongs to it.
        series: the series, from :func:`~monai_noisylabel.data.dicom_series.read_series`.
        path: the new file.
        segments: for each mask its description, or its label.
        description: SeriesDescription of the segmentation.
        overwrite: whether an existing file may be replaced.

    Shape:
        masks (K, \*S), \*S being columns, rows and slices as in ``series.shape``.

    Raises:
        FileExistsError: if the file exists and may not be replaced.
        ModuleNotFoundError: if highdicom is not installed.
        DicomError: if an image names no study or no frame of reference.
        ValueError: if masks, segments and series do not fit each other.
    """
    highdicom = require_highdicom()
    target, array = Path(path), np.asarray(masks) != 0
    if array.shape[1:] != series.shape or len(array) != len(segments) or not segments:
        raise ValueError(
            f"{target}: masks of the shape {array.shape} do not fit {len(segments)} segment(s) of {series.folder}, "
            f"whose volume has the shape {series.shape}."
        )
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; write elsewhere, or allow overwrite.")
    images = [_source(one.path) for one in series.slices]
    made = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(array.transpose(3, 2, 1, 0), np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(highdicom, k, entry) for k, entry in enumerate(segments, start=1)],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=metadata.version(NAME),
        device_serial_number="0",
        series_description=description,
        content_label="RESEARCH",
    )
    with unfinished(target) as draft:
        made.save_as(draft)
    return target


def _source(path: Path) -> pydicom.Dataset:
    """Header of an image, with what the standard allows to be empty and anonymisation removes."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    if not header.get("SpecificCharacterSet"):
        header.pop("SpecificCharacterSet", None)  # as good as none, but highdicom refuses an empty one
    absent = [name for name in ("StudyInstanceUID", "FrameOfReferenceUID") if not header.get(name)]
    if absent:
        raise DicomError(f"{path}: has no {', '.join(absent)}, which a DICOM SEG refers to; write labels as NIfTI.")
    return header


def _described(highdicom: ModuleType, number: int, segment: SegmentInfo | str) -> Any:
    info = SegmentInfo(segment) if isinstance(segment, str) else segment
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME,
        version=metadata.version(NAME),
        family=Code("123110", "DCM", "Artificial Intelligence"),
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=info.label[:64],
        segmented_property_category=Code(*info.category),
        segmented_property_type=Code(*info.kind),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
        display_color=None if info.colour is None else highdicom.color.CIELabColor.from_dicom_value(info.colour),
    )


def _code(sequence: Any) -> Coded:
    """The code in a sequence; tissue where it holds none."""
    item = sequence[0] if sequence else pydicom.Dataset()
    found = tuple(str(item.get(name, "")) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
    return (found[0], found[1], found[2]) if all(found) else TISSUE
