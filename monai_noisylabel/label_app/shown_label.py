"""Labels as a viewer shows them and hands them back: one file per case, on the grid of the image it shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import aff2axcodes
from PIL import Image

from monai_noisylabel.data.case_label import CaseLabel, turned, turned_affine
from monai_noisylabel.data.label_geometry import way_beside
from monai_noisylabel.data.original_label import read_original
from monai_noisylabel.data.read_image import NIFTI, PICTURES, read_image
from monai_noisylabel.data.unfinished import unfinished
from monai_noisylabel.label_app.label_code import LabelCode, renumbered

__all__ = ["SHOWN_AS_THEY_ARE", "read_shown_label", "shown_suffix", "write_shown_image", "write_shown_label"]

SHOWN_AS_THEY_ARE = (*NIFTI, ".png", ".jpg", ".tif")
"""Endings of images that MONAI Label lists; others are converted, volumes to NIfTI and pictures to PNG."""


def shown_suffix(image: str) -> str:
    """Ending of the file that stands for an image in a viewer.

    Example:
        >>> [shown_suffix(name) for name in ("a.nii", "b.jpeg", "series")]
        ['.nii', '.png', '.nii.gz']
    """
    name = image.lower()
    ending = next((ending for ending in (".nii.gz", *SHOWN_AS_THEY_ARE) if name.endswith(ending)), "")
    return ending or (".png" if name.endswith(PICTURES) else ".nii.gz")


def write_shown_image(image: str, target: Path, series: str | None = None) -> None:
    """Write what a viewer shows of an image: the same bytes where it can, else the first channel as it is read.

    Args:
        image: a file, or the folder of a DICOM series.
        target: the file: NIfTI, or PNG for a picture.
        series: which series of a folder that holds several.
    """
    with unfinished(target) as draft:
        if image.lower().endswith(SHOWN_AS_THEY_ARE):
            shutil.copyfile(image, draft)
            return
        found = read_image(image, series=series)
        values = found.as_tensor().numpy()
        if target.suffix == ".png":
            pixels = values.T if len(values) == 3 else values[0].T
            Image.fromarray(pixels.astype(np.uint8)).save(draft)
        else:
            nibabel.save(nibabel.Nifti1Image(values[0], np.asarray(found.affine, float)), draft)


def write_shown_label(label: CaseLabel, masks: np.ndarray, code: LabelCode, image: Path, target: Path) -> None:
    r"""Write masks of a case as one label on the grid of the image that the viewer shows.

    Args:
        label: the given label, whose axes the masks have.
        masks: of the structures.
        code: values to write.
        image: the image that the viewer shows.
        target: the file: NIfTI, or PNG for a picture.

    Shape:
        masks (K, \*S).
    """
    values = code.encode(masks)
    with unfinished(target) as draft:
        if target.suffix == ".png":
            Image.fromarray(np.ascontiguousarray(values.T)).save(draft)
            return
        shown = nibabel.load(image)
        assert isinstance(shown, nibabel.Nifti1Image)  # includes NIfTI-2
        axes = None if label.axes is None else "".join(aff2axcodes(shown.affine))
        nibabel.save(nibabel.Nifti1Image(turned(values, label.affine, axes), shown.affine), draft)


def read_shown_label(file: Path, label_info: Any, label: CaseLabel, code: LabelCode) -> np.ndarray:
    r"""Masks of a label that a viewer handed in.

    Args:
        file: NIfTI, NRRD or a picture.
        label_info: what came with it, see :func:`~monai_noisylabel.label_app.label_code.renumbered`.
        label: the given label of the case.
        code: values of the viewer.

    Shape:
        Result (K, \*S), bool, in the axes of the given label.

    Raises:
        ValueError: if it cannot be read, lies on another grid than the given label, or holds unknown values.
    """
    found = read_original(file)
    values = turned(found.values, found.affine, label.axes)
    wanted = label.masks.shape[1:]
    if values.shape != wanted:
        raise ValueError(f"the label has the shape {values.shape}, the image {wanted}; draw it on the image as it is.")
    if label.axes is not None:
        apart = way_beside(turned_affine(found.affine, label.axes, wanted), label.affine, wanted)
        if apart:
            raise ValueError(f"the label lies up to {apart:.3g} mm beside the image; draw it on the image as it is.")
    return code.decode(renumbered(values, label_info, code.label_names))
