"""Label files of a case, DICOM segmentations among them, which only the series of their image gives a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from monai.data import MetaTensor

from monai_noisylabel.data.dicom_seg import DicomRules, is_dicom_seg, open_seg, seg_values
from monai_noisylabel.data.dicom_series import read_series
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.original_label import ClassValues, OriginalLabel, read_original
from monai_noisylabel.data.read_image import placed, read_label, stacked

__all__ = ["dicom_rules", "label_templates", "read_case_labels", "read_originals"]

Values = tuple[int, ...] | None
"""Values of a class in a label file; None stands for everything that is not 0."""


def dicom_rules(manifest: Manifest) -> DicomRules:
    """How the DICOM files of a dataset are read."""
    return DicomRules(
        manifest.dicom.series,
        manifest.dicom.segments,
        manifest.background_values,
        manifest.task == "multi_label",
        _parts(manifest),
    )


def label_templates(manifest: Manifest) -> dict[str, str]:
    """Where the label of each class lies."""
    label = manifest.layout.label
    return {name: label[name] if isinstance(label, dict) else label for name in manifest.classes}


def _parts(manifest: Manifest) -> frozenset[str]:
    """Structures that share a file with others and may overlap them."""
    templates = label_templates(manifest)
    shared = Counter(templates.values())
    overlap = manifest.task == "multi_label"
    return frozenset(name for name, template in templates.items() if overlap and shared[template] > 1)


def read_case_labels(
    files: str | Sequence[str], image: str, classes: Sequence[Values], rules: DicomRules, coloured: bool = False
) -> MetaTensor:
    r"""Read the label files of a case with the values in them.

    Args:
        files: one file, or one per class.
        image: image of the case; of a DICOM SEG, the folder of its series.
        classes: values of each class.
        rules: how DICOM files are read.
        coloured: whether colours are the values.

    Shape:
        Result (1, \*S); (K, \*S) where there is a file per class, or one DICOM SEG whose structures may overlap.

    Raises:
        ValueError: if a file cannot be read, is a segmentation of another series, or files and classes differ in
            number.
    """
    if not isinstance(files, str) and len(files) == 1:
        files = files[0]
    if not isinstance(files, str):
        if len(files) != len(classes):
            raise ValueError(f"{list(files)}: {len(files)} label files for {len(classes)} classes.")
        one_each = [read_case_labels(f, image, [c], rules, coloured) for f, c in zip(files, classes, strict=True)]
        return stacked(one_each)
    if not is_dicom_seg(files):
        return read_label(files, coloured)
    values, affine = _seg_channels(files, image, classes, rules)
    return placed(values, affine, files)


def read_originals(
    files: Sequence[str], image: str, classes: Mapping[str, ClassValues], rules: DicomRules, coloured: bool = False
) -> list[tuple[OriginalLabel, tuple[int, ...]]]:
    """Read the label files of a case, each once, on their own grids.

    Args:
        files: one file, or one per class; several classes may share one.
        image: image of the case; of a DICOM SEG, the folder of its series, whose grid its values get.
        classes: names of the classes and their values in the files.
        rules: how DICOM files are read.
        coloured: whether a picture's classes are colours.

    Returns:
        Labels, each with the indices of the classes in it. A DICOM SEG whose structures may overlap gives one for
        each class.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: as :func:`read_case_labels`.
    """
    found: list[tuple[OriginalLabel, tuple[int, ...]]] = []
    numbers = range(len(classes))
    for file in dict.fromkeys(files):
        inside = tuple(k for k in numbers if len(files) == 1 or files[k] == file)
        if not is_dicom_seg(file):
            found.append((read_original(file, coloured=coloured), inside))
            continue
        wanted = {name: values for k, (name, values) in enumerate(classes.items()) if k in inside}
        channels, affine = _seg_channels(file, image, [_tuple(values) for values in wanted.values()], rules)
        labels = [OriginalLabel(Path(file), channel, affine) for channel in channels]
        if len(labels) == 1:
            found.append((labels[0], inside))
        else:
            found += [(label, (k,)) for label, k in zip(labels, inside, strict=True)]
    return found


def _seg_channels(file: str, image: str, classes: Sequence[Values], rules: DicomRules) -> tuple[np.ndarray, np.ndarray]:
    """Values (1 or K, *S) of a segmentation, and the affine of its series."""
    series = read_series(image, rules.series)
    return seg_values(open_seg(file, series), rules, classes if rules.overlap else None), series.affine


def _tuple(values: ClassValues) -> Values:
    return None if values is None else tuple(np.ravel(values).tolist())
