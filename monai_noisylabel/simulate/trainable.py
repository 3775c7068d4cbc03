"""What makes other labels of a dataset a dataset of its own: a manifest for it, and copies of the images."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_noisylabel.data.case_label import paths_of, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec, volume_of
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.seg_label import dicom_rules, label_templates
from monai_noisylabel.data.unfinished import unfinished
from monai_noisylabel.data.written_names import written_files, written_name
from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["copy_file", "copy_missing", "write_labels", "write_manifest"]


def write_manifest(
    spec: DatasetSpec,
    note: str,
    path: Path,
    *,
    suffix: str = "noisy",
    origin: str = "Simulated from",
    same_slices: bool = True,
) -> None:
    """Write a manifest for the dataset with other labels.

    It names the cases of each split, so that they stay what they are in the original whatever else the folder
    holds. Where a 2D training takes the labelled slices of the original, it can name these too: a slice whose
    annotation was removed has to stay then, and none may join.

    Args:
        spec: the original dataset.
        note: what was done to the labels, added to the description.
        path: the file.
        suffix: added to the name of the dataset.
        origin: what its source says before that name.
        same_slices: whether a 2D training on it takes the slices that one on the original takes.
    """
    content = spec.manifest.model_dump(mode="json")
    splits = {"train": spec.train, "val": spec.val, "test": spec.test}
    content["splits"] = {name: {"cases": _volumes(items)} for name, items in splits.items()}
    content["name"] += f"_{suffix}"
    content["description"] += f" {note}"
    content["source"] = f"{origin} {spec.manifest.name}; {content['source']}"
    if same_slices and content["preprocessing"]["slices"] != "all":
        content["preprocessing"]["slices"] = _slices(spec) or "all"
    content["layout"]["label"] = _label_templates(spec.manifest)
    checked = Manifest.model_validate(content).model_dump(mode="json", exclude_defaults=True)
    write_atomically(json.dumps(checked, indent=2) + "\n", path)


def _label_templates(manifest: Manifest) -> str | dict[str, str]:
    """Where the noisy labels lie; one DICOM SEG of structures that may overlap has become a file for each."""
    label = manifest.layout.label
    templates = label_templates(manifest)
    parts = {name for name in dicom_rules(manifest).parts if templates[name].lower().endswith(".dcm")}
    if not isinstance(label, dict) and not parts:
        return written_name(label)
    return {name: written_name(template, name if name in parts else "") for name, template in templates.items()}


def _slices(spec: DatasetSpec) -> dict[str, list[int]]:
    """Numbers of the slices that a dataset takes of each volume; none in 3D."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for item in (*spec.train, *spec.val, *spec.test):
        if "slice" in item:
            numbers[volume_of(item)].append(item["slice"])
    return dict(numbers)


def copy_missing(spec: DatasetSpec, simulated: Iterable[str], failed: Iterable[str], out: Path) -> int:
    """Copy the images of a dataset, and the labels of its cases that were not simulated, to the new folder.

    Args:
        spec: the dataset.
        simulated: cases (volumes) whose labels are in the new folder already.
        failed: cases that are left out.
        out: the new folder.

    Returns:
        Number of files and series copied; those that are there already are not copied again.
    """
    done, skipped = set(simulated), set(failed)
    copied = 0
    for item in {volume_of(item): item for item in (*spec.train, *spec.val, *spec.test)}.values():
        if volume_of(item) in skipped:
            continue
        for path in paths_of(item["image"]):
            target = out / os.path.relpath(path, spec.dataset_dir)
            if not target.exists():
                copy_file(Path(path), target)
                copied += 1
        names = written_files(item, spec)
        if volume_of(item) not in done and not all((out / name).exists() for name in names):
            write_labels(item, spec, out)
            copied += len(names)
    return copied


def write_labels(
    item: Mapping[str, Any], spec: DatasetSpec, out: Path, instead: Mapping[str, Path] | None = None
) -> None:
    """Write the label files of a case for a dataset of its own.

    Files stay the same to the byte where their format can be written, and are written anew elsewhere.

    Args:
        item: the case.
        spec: its dataset.
        out: the new folder.
        instead: files that take the place of given ones, by their names below the new folder.
    """
    names = written_files(item, spec)
    given = {os.path.relpath(path, spec.dataset_dir): Path(path) for path in paths_of(item["label"])}
    files = {**given, **(instead or {})}
    label = None if set(names) <= set(files) else read_case_label(item, spec)
    for number, name in enumerate(names):
        if name in files:
            copy_file(files[name], out / name)
        elif label is not None:
            label.sources[number].write(label.sources[number].values, out / name)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file or folder so that it is there as a whole or not at all; a file that is there is replaced."""
    with unfinished(target) as draft:
        if source.is_dir():
            shutil.copytree(source, draft)
        else:
            shutil.copyfile(source, draft)


def _volumes(items: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(map(volume_of, items)))
