"""Names of the label files that are written in place of original ones, in other folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from monai_noisylabel.data.case_label import paths_of
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.dicom_seg import is_dicom_seg
from monai_noisylabel.data.read_image import ITK, NIFTI
from monai_noisylabel.data.seg_label import dicom_rules

__all__ = ["written_files", "written_name", "written_names"]

WITHOUT_LOSS = (*NIFTI, ".png", ".bmp", ".tif", ".tiff")
JPEG = (".jpg", ".jpeg")
REWRITTEN = (*JPEG, *ITK)


def written_name(name: str, part: str = "") -> str:
    """Name of a new label file in place of an original one, or template of these names.

    It stays the same but where the format cannot be written: JPEG loses values, and DICOM and NRRD are only read.
    These become PNG and NIfTI.

    Args:
        name: name or template of the original.
        part: of a DICOM SEG whose structures may overlap, the structure, which gets a file of its own.

    Example:
        >>> written_name("labels/a.nii"), written_name("masks/a.jpg"), written_name("series/{case}/")
        ('labels/a.nii', 'masks/a.png', 'series/{case}.nii.gz')
        >>> written_name("seg/{case}.dcm", "left kidney")
        'seg/{case}_left kidney.nii.gz'
    """
    if name.lower().endswith((*WITHOUT_LOSS, "*")):
        return name
    bare = name.rstrip("/")
    ending = next((end for end in REWRITTEN if bare.lower().endswith(end)), "")
    marked = bare[: len(bare) - len(ending)] + (f"_{quote(part, safe=' ')}" if part else "")
    return marked + (".png" if ending in JPEG else ".nii.gz")


def written_names(item: Mapping[str, Any], spec: DatasetSpec) -> dict[str, str]:
    """Name of the new label file, below the folder of its dataset, that each structure of an item is written to.

    In the order of the structures, of which several may have one file. The labels need not be read for it.
    """
    given, parts = paths_of(item["label"]), dicom_rules(spec.manifest).parts
    files = given * len(spec.classes) if len(given) == 1 else given
    segmented = {path: bool(parts) and is_dicom_seg(path) for path in dict.fromkeys(files)}
    return {
        name: written_name(os.path.relpath(path, spec.dataset_dir), name if segmented[path] and name in parts else "")
        for name, path in zip(spec.classes, files, strict=True)
    }


def written_files(item: Mapping[str, Any], spec: DatasetSpec) -> list[str]:
    """The names of :func:`written_names`, each once, in the order of the sources of the item's label."""
    return list(dict.fromkeys(written_names(item, spec).values()))
