"""DICOM series and segmentations written by hand, so that readers meet what scanners and other tools write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
INTERCEPT = -1024
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage, which pydicom 3.0 has no name for


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (10.0, 20.0, 30.0),
    spacing: Sequence[float] = (1.0, 2.0, 3.0),
    slope: float = 1.0,
    description: str = "portal",
    names: str = "{:02d}.dcm",
) -> list[Path]:
    """Write a volume (columns, rows, slices) of HU as a CT series in DICOM's coordinates, one file per slice.

    ``spacing`` is that from column to column, row to row and slice to slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uids = pydicom.uid.generate_uid(), pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for k in range(volume.shape[2]):
        data = _new(CTImageStorage, "CT")
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = uids
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = description, 1, k + 1
        place = np.asarray(origin) + k * spacing[2] * normal
        data.ImagePositionPatient = [round(float(mm), 6) for mm in place]
        data.ImageOrientationPatient = [round(float(part), 9) for part in orientation]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        _pixels(data, volume.shape[:2], 16)
        data.RescaleSlope, data.RescaleIntercept = slope, INTERCEPT
        stored = np.rint((volume[..., k].T - INTERCEPT) / slope).astype(np.uint16)
        data.PixelData = np.ascontiguousarray(stored).tobytes()
        paths.append(folder / names.format(k))
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def edit(path: Path, **changes: object) -> None:
    """Change attributes of a DICOM file; None removes one."""
    data = pydicom.dcmread(path)
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)


def write_seg(
    path: Path,
    series: Sequence[Path],
    masks: Mapping[str, np.ndarray],
    kind: str = "BINARY",
    references: bool = True,
) -> Path:
    """Write masks (columns, rows, slices) of a series as DICOM SEG, without the empty frames, the last slice first.

    Args:
        path: the file.
        series: files of the slices, in the order of the masks.
        masks: by the label of the segment; numbers of segments count from 1.
        kind: ``BINARY``, ``FRACTIONAL`` (0.6 in the masks, 0.4 elsewhere) or ``LABELMAP``.
        references: whether frames name the image they are of.
    """
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series]
    data = _new(LABEL_MAP if kind == "LABELMAP" else SegmentationStorage, "SEG")
    data.StudyInstanceUID, data.SeriesInstanceUID = sources[0].StudyInstanceUID, pydicom.uid.generate_uid()
    data.FrameOfReferenceUID, data.SegmentationType = sources[0].FrameOfReferenceUID, kind
    data.SegmentSequence = [_segment(number, label) for number, label in enumerate(masks, start=1)]
    data.SharedFunctionalGroupsSequence = [_shared(sources[0])]
    if kind == "LABELMAP":
        values = sum(number * mask.astype(np.uint8) for number, mask in enumerate(masks.values(), start=1))
        frames = [(None, k, values[..., k]) for k in range(len(sources))]
    else:
        all_of = [(n, k, mask[..., k]) for n, mask in enumerate(masks.values(), 1) for k in range(len(sources))]
        frames = [frame for frame in all_of[::-1] if frame[2].any()]
    data.PerFrameFunctionalGroupsSequence = [_frame(n, sources[k], references) for n, k, _ in frames]
    _pixels(data, (sources[0].Columns, sources[0].Rows), 1 if kind == "BINARY" else 8)
    data.NumberOfFrames = len(frames)
    planes = np.stack([plane.T for _, _, plane in frames])
    if kind == "FRACTIONAL":
        data.SegmentationFractionalType, data.MaximumFractionalValue = "PROBABILITY", 100
        planes = np.where(planes, 60, 40)
    packed = np.packbits(planes.ravel().astype(bool), bitorder="little") if kind == "BINARY" else planes
    content = packed.astype(np.uint8).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _new(kind: str, modality: str) -> pydicom.Dataset:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, pydicom.uid.generate_uid(), modality
    data.file_meta.MediaStorageSOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PatientName, data.PatientID = "Nobody^", "0"
    return data


def _pixels(data: pydicom.Dataset, size: Sequence[int], bits: int) -> None:
    data.Columns, data.Rows = size
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1


def _segment(number: int, label: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = number, label, "MANUAL"
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "85756007", "SCT", "Tissue"
    item.SegmentedPropertyCategoryCodeSequence, item.SegmentedPropertyTypeCodeSequence = [code], [code]
    return item


def _shared(source: pydicom.Dataset) -> pydicom.Dataset:
    item, orientation, measures = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = source.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = source.PixelSpacing, source.SliceThickness
    item.PlaneOrientationSequence, item.PixelMeasuresSequence = [orientation], [measures]
    return item


def _frame(number: int | None, source: pydicom.Dataset, references: bool) -> pydicom.Dataset:
    item, position = pydicom.Dataset(), pydicom.Dataset()
    position.ImagePositionPatient = source.ImagePositionPatient
    item.PlanePositionSequence = [position]
    if number is not None:
        segment = pydicom.Dataset()
        segment.ReferencedSegmentNumber = number
        item.SegmentIdentificationSequence = [segment]
    if references:
        image, derivation = pydicom.Dataset(), pydicom.Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        derivation.SourceImageSequence = [image]
        item.DerivationImageSequence = [derivation]
    return item
