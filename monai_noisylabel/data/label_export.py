"""Corrected labels as files on the grid of the originals, for review, comparison or training elsewhere."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from monai_noisylabel.data.corrected_seg import Placed, check_format, write_corrected_seg
from monai_noisylabel.data.dicom_seg import DicomRules
from monai_noisylabel.data.label_codec import StoredLabel
from monai_noisylabel.data.label_geometry import OUTSIDE, onto_grid
from monai_noisylabel.data.original_label import (
    ClassValues,
    OriginalLabel,
    held_by,
    merged_values,
)
from monai_noisylabel.data.originals import lies_in
from monai_noisylabel.data.seg_label import read_originals

if TYPE_CHECKING:
    from monai_noisylabel.data.label_store import LabelStore

__all__ = ["ExportReport", "export_labels", "file_name_of"]

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]


@dataclass(frozen=True)
class ExportReport:
    """What became of every case; the slices of a volume are one case, named like the volume.

    Args:
        written: files of each case that was written.
        not_corrected: cases that have no stored label.
        failed: what went wrong with each of the others.
    """

    written: dict[str, list[Path]] = field(default_factory=dict)
    not_corrected: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def export_labels(
    store: LabelStore,
    items: Iterable[Item],
    out_dir: str | os.PathLike[str],
    *,
    class_values: Sequence[ClassValues],
    classes: Sequence[str] | None = None,
    coloured: bool = False,
    dicom: DicomRules | None = None,
    form: str = "nifti",
    round: int | None = None,
    overwrite: bool = False,
    dataset_dir: str | os.PathLike[str] | None = None,
) -> ExportReport:
    """Write the newest stored label of every case on the grid of its given label file.

    Labels return from the training grid by nearest-neighbour resampling. Where that grid does not reach, and
    on slices without a correction, the given label stands. Volumes become NIfTI with the header, affine and
    data type of the original, pictures PNG; a label of several channels becomes one file per structure. A
    case that cannot be written is reported and logged, and the others go on. As DICOM SEG, all structures of a case
    become one file on the grid of its series, see :func:`~monai_noisylabel.data.corrected_seg.write_corrected_seg`.

    Boundaries are as exact as the coarser of the two grids: a label learnt at 3 mm returns in steps of 3 mm.

    Args:
        store: the labels.
        items: dictionaries with ``case``, ``label`` (path of the given label file, or a list with one file
            per structure) and, for a slice of a volume, ``slice``; the case id of a slice ends in
            ``/<slice>``. Where DICOM SEG is read or written, ``image`` is the folder of the series.
        out_dir: folder of the new files: ``<case>.nii.gz`` or ``<case>.png``, with ``_<class>``
            after the case when there are several channels; ``<case>.dcm`` for DICOM SEG.
        class_values: per foreground class its value in the given files; several values are possible, of which
            the first is written; None: everything that is not 0.
        classes: names of the classes, for the file names; default: their numbers from 1.
        coloured: whether label pictures hold colours; their values are then red * 65536 + green * 256 + blue.
        dicom: how DICOM files are read.
        form: ``"nifti"``, which is PNG for pictures, or ``"dicom_seg"``.
        round: the labels as they were after this round; None: the newest.
        overwrite: whether an earlier export may be replaced. An original never is.
        dataset_dir: folder of the originals; nothing is written there.

    Raises:
        ValueError: if ``out_dir`` lies in ``dataset_dir``, names and values of the classes differ in number,
            there is no such format, or the store has no such round.
        ModuleNotFoundError: if highdicom is needed and not installed.
    """
    check_format(form)
    rules = dicom or DicomRules()
    if dataset_dir is not None and lies_in(out_dir, dataset_dir):
        raise ValueError(
            f"{out_dir} lies in the dataset folder {dataset_dir}, which must stay untouched. Export to another folder."
        )
    names = _names(classes, len(class_values))
    if round:
        store.record(round)  # a round that does not exist is no fault of the single cases
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item["case"].rpartition("/")[0] if item.get("slice") is not None else item["case"]].append(item)
    originals = {Path(path).resolve() for group in groups.values() for item in group for path in _given_files(item)}
    report = ExportReport()
    for case, group in groups.items():
        try:
            found = [store.read_stored(item["case"], round) for item in group]
            stored = [label for label in found if label is not None]
            if not stored:
                report.not_corrected.append(case)
                continue
            given, image = _given_files(group[0]), _first_image(group[0])
            _check_numbers(len(stored[0].label), len(given), len(names))
            structures = dict(zip(names, class_values, strict=True))
            sources = _sources(read_originals(given, image, structures, rules, coloured), len(names))
            files = dict(_corrected(stored, sources, names, class_values))
            endings = list(files) if form == "nifti" else [".dcm"]
            targets = [Path(out_dir) / (file_name_of(case) + ending) for ending in endings]
            _check_targets(targets, originals, overwrite)
            if form == "nifti":
                for target, (source, values) in zip(targets, files.values(), strict=True):
                    source.write(values, target)
            else:
                masks = _masks(list(files.values()), class_values)
                write_corrected_seg(masks, structures, image, given, targets[0], rules, overwrite=overwrite)
            report.written[case] = targets
        except Exception as error:  # whatever is wrong with one case, the others must not be lost
            logger.error(f"Case {case!r} was not exported: {error}")
            report.failed[case] = f"{type(error).__name__}: {error}"
    return report


def file_name_of(case: str) -> str:
    """Path of a case below a folder of new files: "/" makes folders, everything else special is quoted.

    Example:
        >>> file_name_of("p1/a:b"), file_name_of("..")
        ('p1/a%3Ab', '%2E%2E')
    """
    return "/".join(quote(part, safe=" ") if part.strip(".") else "%2E" * len(part) for part in case.split("/"))


def _names(classes: Sequence[str] | None, count: int) -> list[str]:
    """Names of the classes, by default their numbers from 1."""
    names = [str(number) for number in range(1, count + 1)] if classes is None else list(classes)
    if len(names) != count:
        raise ValueError(f"classes names {len(names)} classes, class_values has the values of {count}.")
    return names


def _check_numbers(channels: int, files: int, classes: int) -> None:
    if files not in (1, channels):
        raise ValueError(f"{files} given label files do not fit a stored label of {channels} channel(s)")
    if channels not in (1, classes):
        raise ValueError(f"{classes} class values do not fit a stored label of {channels} channels")


def _corrected(
    stored: Sequence[StoredLabel],
    sources: Sequence[OriginalLabel],
    names: Sequence[str],
    class_values: Sequence[ClassValues],
) -> Iterator[tuple[str, tuple[OriginalLabel, np.ndarray]]]:
    """The corrected values of each file to write, with the original it is like, by the ending of its name."""
    channels = len(stored[0].label)
    if channels == 1:
        label = _on_original_grid(stored, sources[0], 0)
        if label.max() > len(class_values):
            raise ValueError(
                f"the stored label holds class {label.max()}, but there are {len(class_values)} class values"
            )
        yield (
            sources[0].suffix,
            (sources[0], merged_values(sources[0].values, label, class_values, sources[0].mark)),
        )
        return
    for channel, (name, value) in enumerate(zip(names, class_values, strict=True)):
        source = sources[channel % len(sources)]
        given = source.values
        if len(sources) == 1:  # one file holds all structures: the new file gets this one only
            given = np.where(held_by(given, value), given, 0)
        label = _on_original_grid(stored, source, channel)
        yield (
            f"_{quote(name, safe=' ')}{source.suffix}",
            (source, merged_values(given, label, [value], source.mark)),
        )


def _on_original_grid(stored: Sequence[StoredLabel], source: OriginalLabel, channel: int) -> np.ndarray:
    """One channel of a stored label, or of the stored slices of a volume; OUTSIDE where nothing is said."""
    shape = source.values.shape
    result = np.full(shape, OUTSIDE, np.int16)
    grids: dict[str, np.ndarray] = {}
    for label, header in stored:
        geometry = header["geometry"]
        if geometry is None:
            if label.shape[1:] != shape:
                raise ValueError(
                    f"the label of case {header['case']!r} was stored without geometry and its shape "
                    f"{label.shape[1:]} is not that of {source.path}, {shape}; give LabelStore.propose the "
                    "geometry of the training label"
                )
            geometry = {"affine": source.affine.tolist(), "shape": list(shape)}
        if len(geometry["shape"]) != len(shape):
            raise ValueError(
                f"the label of case {header['case']!r} has {len(geometry['shape'])} axes, {source.path} has "
                f"{len(shape)}; a slice of a volume needs 'slice' in its geometry"
            )
        key = json.dumps([geometry["affine"], geometry["shape"]])
        grid = grids.setdefault(key, np.full(geometry["shape"], OUTSIDE, np.int16))
        grid[(..., geometry["slice"]) if "slice" in geometry else ...] = label[channel]
    for key, grid in grids.items():
        resampled = onto_grid(grid, np.array(json.loads(key)[0]), source.affine, shape)
        np.copyto(result, resampled, where=resampled != OUTSIDE)
    return result


def _sources(found: Sequence[tuple[OriginalLabel, Sequence[int]]], classes: int) -> list[OriginalLabel]:
    """One label for all classes, or one for each."""
    if len(found) == 1:
        return [found[0][0]]
    of_class = {k: source for source, inside in found for k in inside}
    return [of_class[k] for k in range(classes)]


def _masks(files: Sequence[tuple[OriginalLabel, np.ndarray]], class_values: Sequence[ClassValues]) -> list[Placed]:
    """Mask of each class, from one array of values or one per class."""
    several = list(files) * len(class_values) if len(files) == 1 else files
    pairs = zip(several, class_values, strict=True)
    return [(held_by(values, value), source.affine) for (source, values), value in pairs]


def _first_image(item: Item) -> str:
    image = item.get("image", "")
    return str(image if isinstance(image, (str, os.PathLike)) else image[0])


def _given_files(item: Item) -> list[str]:
    label = item["label"]
    return [str(label)] if isinstance(label, (str, os.PathLike)) else [str(path) for path in label]


def _check_targets(targets: Iterable[Path], originals: Collection[Path], overwrite: bool) -> None:
    for target in targets:
        if target.resolve() in originals:
            raise FileExistsError(f"{target} is an original label file, which is never written; export elsewhere")
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; export elsewhere, or allow overwrite")
