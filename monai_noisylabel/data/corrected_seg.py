"""Corrected labels of a case as DICOM SEG: the given segmentation, or one of its own, with other masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from monai_noisylabel.data.case_label import turned, turned_affine
from monai_noisylabel.data.dicom_seg import DicomRules, DicomSeg, is_dicom_seg, open_seg
from monai_noisylabel.data.dicom_seg_writer import SegmentInfo, require_highdicom, write_dicom_seg
from monai_noisylabel.data.dicom_series import DicomSeries, read_series
from monai_noisylabel.data.dicom_slices import DicomError
from monai_noisylabel.data.label_geometry import way_beside
from monai_noisylabel.data.original_label import ClassValues

__all__ = ["LABEL_FORMATS", "Placed", "check_format", "write_corrected_seg"]

LABEL_FORMATS = ("nifti", "dicom_seg")
"""Formats that corrected labels can be written in; ``nifti`` stands for the form of the given label, where it is NIfTI
or a picture."""

MAX_VOXELS = 2**32
UNUSED = "unused"

Placed = tuple[np.ndarray, np.ndarray]
"""A mask (*S), and its affine from voxel index to world."""


def check_format(form: str) -> None:
    """Refuse a format that is none of :data:`LABEL_FORMATS`, or whose library is missing.

    Raises:
        ValueError: if there is no such format.
        ModuleNotFoundError: if highdicom is needed and not installed.
    """
    if form not in LABEL_FORMATS:
        raise ValueError(f"format must be one of {', '.join(LABEL_FORMATS)}, got {form!r}.")
    if form == "dicom_seg":
        require_highdicom()


def write_corrected_seg(
    masks: Sequence[Placed],
    classes: Mapping[str, ClassValues],
    image: str,
    given: Sequence[str],
    target: Path,
    rules: DicomRules,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the corrected masks of a case as a DICOM SEG on the grid of its series.

    Where the given label is one DICOM SEG, the new one keeps its segments with their numbers and descriptions, so that
    the manifest fits it too. Those that are none of the classes stay as they are, but for voxels that they lose to one
    where structures exclude each other. A class that has several segments gains voxels in the first. Otherwise there is
    one segment per class, numbered from 1, with the name of the class.

    Args:
        masks: of each class, in any orientation of the series' grid.
        classes: names of the classes and their values in the given label.
        image: folder of the series.
        given: files of the given label.
        target: the new file.
        rules: how DICOM files are read.
        overwrite: whether an existing file may be replaced.

    Raises:
        DicomError: if the image is no series, a mask lies on another grid, or the segmentation is too large.
        FileExistsError: if the file exists and may not be replaced.
    """
    series = read_series(image, rules.series)
    corrected = np.stack([_on_grid(mask, affine, series) for mask, affine in masks])
    files = list(dict.fromkeys(given))
    if len(files) == 1 and is_dicom_seg(files[0]):
        corrected, described = _merged(open_seg(files[0], series), corrected, classes, rules)
        return write_dicom_seg(corrected, series, target, described, overwrite=overwrite)
    return write_dicom_seg(corrected, series, target, list(classes), overwrite=overwrite)


def _on_grid(mask: np.ndarray, affine: np.ndarray, series: DicomSeries) -> np.ndarray:
    """A mask with its axes turned to those of the series; an error if it lies elsewhere."""
    axes = "".join(aff2axcodes(series.affine))
    array = turned(mask, affine, axes)
    apart = np.inf
    if array.shape == series.shape:
        apart = way_beside(turned_affine(affine, axes, array.shape), series.affine, series.shape)
    if apart:
        raise DicomError(
            f"{series.folder}: its grid of {series.shape} voxels is not that of the label, {array.shape} after "
            f"turning, {apart:.3g} mm apart. Write the label as NIfTI, which keeps the grid of the given one."
        )
    return array


def _merged(
    seg: DicomSeg, corrected: np.ndarray, classes: Mapping[str, ClassValues], rules: DicomRules
) -> tuple[np.ndarray, list[SegmentInfo]]:
    """Masks and descriptions of the segments of a file after the classes among them have become other masks."""
    described = {int(item.SegmentNumber): SegmentInfo.like(item) for item in seg.dataset.SegmentSequence}
    described = {number: info for number, info in described.items() if number}
    values = seg.values(rules)
    numbers: list[list[int]] = []
    for name, wanted in classes.items():
        inside = [number for number, value in values.items() if wanted is None or value in np.ravel(wanted)]
        if not inside:
            number, label = _new_segment(name, wanted, described, rules)
            described[number], inside = SegmentInfo(label), [number]
        numbers.append(inside)
    count = max(described)
    if count * corrected[0].size > MAX_VOXELS:
        raise DicomError(f"{seg.path}: {count} segments of {seg.series.shape} are too many; write labels as NIfTI.")
    masks = np.zeros((count, *seg.series.shape), bool)
    for number, plane, here in seg.frames():
        masks[number - 1, ..., plane] |= here
    for inside, mask in zip(numbers, corrected, strict=True):
        index = [number - 1 for number in inside]
        gained = mask & ~masks[index].any(0)
        masks[index] &= mask
        masks[index[0]] |= gained
        if not rules.overlap:
            masks[[number - 1 for number in values if number not in inside]] &= ~gained
    return masks, [described.get(number, SegmentInfo(UNUSED)) for number in range(1, count + 1)]


def _new_segment(
    name: str, wanted: ClassValues, described: Mapping[int, SegmentInfo], rules: DicomRules
) -> tuple[int, str]:
    """Number and label of a segment for a class that a file has none of, by which the manifest finds it."""
    value = None if wanted is None else int(np.ravel(wanted)[0])
    following = max(described, default=0) + 1
    if rules.named:
        return following, next((text for text, entry in rules.named.items() if value in (None, entry)), name)
    return (following if value is None else value), name
