"""Error maps and proposed labels of a case, as files on the grid of its given label."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from monai_noisylabel.audit.problems import Problem
from monai_noisylabel.audit.regions import Region
from monai_noisylabel.data.case_label import CaseLabel, paths_of
from monai_noisylabel.data.corrected_seg import write_corrected_seg
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.label_export import file_name_of
from monai_noisylabel.data.originals import lies_in
from monai_noisylabel.data.read_image import image_stem
from monai_noisylabel.data.seg_label import dicom_rules
from monai_noisylabel.data.written_names import written_files
from monai_noisylabel.masks import from_masks, to_masks

__all__ = [
    "ERROR_VALUES",
    "error_map",
    "proposed_masks",
    "proposed_seg_name",
    "write_error_maps",
    "write_proposal",
    "write_proposed_seg",
]

ERROR_VALUES = {
    "missing": 1,
    "spurious": 2,
    "boundary too far in": 3,
    "boundary too far out": 4,
    "class confusion": 5,
}
"""Values in an error map; 0 is no error."""

COLOURS = ((0, 0, 0), (0, 114, 178), (213, 94, 0), (86, 180, 233), (230, 159, 0), (204, 121, 167))
PALETTE = [part for colour in COLOURS for part in colour]

Found = Sequence[tuple[Problem, Sequence[Region]]]


def error_map(regions: Sequence[Region], shape: Sequence[int]) -> np.ndarray:
    r"""Where the regions are, with the value of their type.

    Shape:
        Result (\*S), uint8.
    """
    result = np.zeros(tuple(shape), np.uint8)
    for region in regions:
        result[region.window][region.mask] = ERROR_VALUES[region.type]
    return result


def proposed_masks(masks: np.ndarray, found: Found) -> np.ndarray:
    r"""Masks after every region has got the class that it seems to be.

    Args:
        masks: of the given label.
        found: the regions of each problem.

    Shape:
        masks and result (K, \*S).
    """
    result = masks.copy()
    for problem, regions in found:
        index = [number - 1 for number in problem.classes[1:]]
        label = from_masks(result[index], multi_label=False)[0]
        for region in regions:
            label[region.window][region.mask] = region.seems
        result[index] = to_masks(label[None], len(index) + 1)
    return result


def write_error_maps(case: str, label: CaseLabel, found: Found, folder: Path) -> list[Path]:
    """Write the error map of a case, or one for each of its overlapping structures, in the form of the label.

    NIfTI has the grid and header of the label, a picture is a PNG with a palette.
    """
    written = []
    for problem, regions in found:
        ending = f"_{file_name_of(problem.name)}" if problem.name else ""
        source = label.sources[0]
        values = label.in_file_axes(error_map(regions, label.masks.shape[1:]))
        target = folder / f"{file_name_of(case)}{ending}{source.suffix}"
        nifti = source.nifti
        if nifti is not None:
            header = nifti.header.copy()
            header.set_data_dtype(np.uint8)
            header.set_slope_inter(1, 0)
            nifti = nibabel.Nifti1Image(np.zeros(nifti.shape, np.uint8), nifti.affine, header)
        form = replace(source, nifti=nifti, pixel="uint8", palette=PALETTE, coloured=False)
        form.write(values, target)
        written.append(target)
    return written


def write_proposal(
    item: Mapping[str, Any], label: CaseLabel, found: Found, spec: DatasetSpec, folder: Path
) -> list[Path]:
    """Write the label of a case as the network would have it, in the form and under the names of the given one."""
    contents = label.contents_with(proposed_masks(label.masks, found))
    written = []
    for name, source, values in zip(written_files(item, spec), label.sources, contents, strict=True):
        target = folder / name
        if lies_in(target, spec.dataset_dir):
            raise FileExistsError(f"{target} leads into the dataset folder, where nothing is written.")
        source.write(values, target)
        written.append(target)
    return written


def proposed_seg_name(item: Mapping[str, Any], spec: DatasetSpec) -> Path:
    """Where :func:`write_proposed_seg` puts the proposal of a case, below its folder."""
    place = Path(os.path.relpath(paths_of(item["label"])[0], spec.dataset_dir))
    return place.with_name(image_stem(place.name) + ".dcm")


def write_proposed_seg(
    item: Mapping[str, Any], label: CaseLabel, found: Found, spec: DatasetSpec, folder: Path
) -> Path:
    """Write the label of a case as the network would have it as DICOM SEG, under the name of the given one.

    Raises:
        DicomError: if the image of the case is no DICOM series.
    """
    given = paths_of(item["label"])
    target = folder / proposed_seg_name(item, spec)
    if lies_in(target, spec.dataset_dir):
        raise FileExistsError(f"{target} leads into the dataset folder, where nothing is written.")
    masks = [(mask, label.affine) for mask in proposed_masks(label.masks, found)]
    image, rules = paths_of(item["image"])[0], dicom_rules(spec.manifest)
    return write_corrected_seg(masks, spec.label_values, image, given, target, rules, overwrite=True)
