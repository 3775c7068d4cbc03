"""The simulation of one case: its label read, made noisy, written, and measured as written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.corruption import NoiseRecipe, NoiseRecord, corrupt
from monai_noisylabel.data.case_label import CaseLabel, paths_of, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec, volume_of
from monai_noisylabel.data.originals import fingerprint, lies_in
from monai_noisylabel.data.predicted_labels import PredictedLabels
from monai_noisylabel.data.written_names import written_files
from monai_noisylabel.masks import from_masks, to_masks

__all__ = ["checksums", "confusion_counts", "predicted_root", "simulate_case"]

Item = Mapping[str, Any]


def simulate_case(
    items: Sequence[Item],
    spec: DatasetSpec,
    recipe: NoiseRecipe,
    seed: int,
    out: Path,
    predicted: Mapping[str, PredictedLabels],
) -> list[dict[str, Any]]:
    """Write the noisy label files of a case, or of a volume whose slices are cases.

    Args:
        items: the case, or the slices of the volume.
        spec: the dataset that they are of.
        recipe: the noise.
        seed: seed of the experiment.
        out: folder of the new files; they have the paths of the originals below it.
        predicted: the folders of predicted labels that the recipe names.

    Returns:
        For each item what was drawn and achieved, as plain values: the fields of
        :class:`~monai_noisylabel.corruption.NoiseRecord`, ``volume``, ``patient``, ``unit`` of the surface
        distance, ``voxels`` (see :func:`confusion_counts`), and SHA-256 ``checksums`` of the files written, of
        their originals and of the predicted labels taken.
    """
    label = read_case_label(items[0], spec)
    volume, image = volume_of(items[0]), paths_of(items[0]["image"])[0]
    checked: dict[str, dict[str, str]] = {}

    @cache
    def prediction(folder: str) -> np.ndarray:
        labels = predicted[folder]
        checked[predicted_root(folder)] = checksums(labels.root, [labels.path_of(volume, image)])
        return labels.label_on(label.placed(label.masks), volume, image)

    noisy = label.masks.copy()
    drawn: list[NoiseRecord] = []
    for item in items:
        noisy[_where(item)], record = _corrupted(item, label, spec, recipe, seed, prediction)
        drawn.append(record)
    contents = label.contents_with(noisy)
    targets = [out / name for name in written_files(items[0], spec)]
    for source, values, target in zip(label.sources, contents, targets, strict=True):
        if lies_in(target, spec.dataset_dir):
            raise FileExistsError(f"{target} leads into the dataset folder, where nothing is written.")
        source.write(values, target)
    written = label.masks_in(contents)
    checked["files"] = checksums(out, targets)
    checked["originals"] = checksums(spec.dataset_dir, [source.path for source in label.sources])
    return [_line(item, label, written, record, checked) for item, record in zip(items, drawn, strict=True)]


def _corrupted(
    item: Item,
    label: CaseLabel,
    spec: DatasetSpec,
    recipe: NoiseRecipe,
    seed: int,
    prediction: Callable[[str], np.ndarray],
) -> tuple[np.ndarray, NoiseRecord]:
    where = _where(item)
    clean = label.masks[where]
    noisy, record = corrupt(
        from_masks(clean, spec.multi_label),
        item["case"],
        recipe,
        seed,
        num_classes=spec.num_classes,
        multi_label=spec.multi_label,
        spacing=label.spacing[: clean.ndim - 1],
        patient=item["patient"],
        surfaces=False,
        prediction=lambda folder: prediction(folder)[where],
    )
    return to_masks(noisy, None if spec.multi_label else spec.num_classes), record


def _line(
    item: Item, label: CaseLabel, written: np.ndarray, record: NoiseRecord, checked: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What is recorded of one item."""
    clean, noisy = label.masks[_where(item)], written[_where(item)]
    measured = NoiseRecord.measured(
        record.case,
        record.model,
        record.parameters,
        clean,
        noisy,
        spacing=label.spacing[: clean.ndim - 1],
        annotator=record.annotator,
        may_add=True,
    )
    about = {"volume": volume_of(item), "patient": item["patient"]}
    unit = "voxel" if label.sources[0].suffix == ".png" else "mm"
    counts = confusion_counts(clean, noisy, label.overlap)
    return {**measured.as_dict(), **about, "unit": unit, "voxels": counts.tolist(), "checksums": checked}


def confusion_counts(clean: np.ndarray, noisy: np.ndarray, overlap: bool) -> np.ndarray:
    r"""How many voxels of each class went to each class.

    Args:
        clean: masks before.
        noisy: masks after.
        overlap: whether structures may overlap.

    Shape:
        clean and noisy (K, \*S); result (K + 1, K + 1) with rows for the classes before, background first; with
        overlap (K, 2, 2), one such table for each structure and its background.

    Example:
        >>> clean, noisy = np.array([[1, 1, 0], [0, 0, 1]], bool), np.array([[1, 0, 1], [0, 0, 0]], bool)
        >>> confusion_counts(clean, noisy, overlap=False).tolist()
        [[0, 0, 0], [1, 1, 0], [0, 1, 0]]
        >>> confusion_counts(clean, noisy, overlap=True).tolist()
        [[[0, 1], [1, 1]], [[2, 0], [1, 0]]]
    """
    if overlap:
        pairs = zip(clean[:, None], noisy[:, None], strict=True)
        return np.stack([confusion_counts(*pair, overlap=False) for pair in pairs])
    size = len(clean) + 1
    before, after = (from_masks(masks, multi_label=False).astype(np.intp) for masks in (clean, noisy))
    return np.bincount((before * size + after).ravel(), minlength=size * size).reshape(size, size)


def predicted_root(folder: str) -> str:
    """Name of a folder of predicted labels among the ``checksums``."""
    return f"predicted in {folder}"


def checksums(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, and of all files in folders, by their paths below a folder."""
    return {Path(os.path.relpath(path, root)).as_posix(): digest for path, digest in fingerprint(paths).items()}


def _where(item: Item) -> tuple[Any, ...]:
    """Index of an item's voxels in the masks of its volume."""
    return (...,) if item.get("slice") is None else (..., item["slice"])
