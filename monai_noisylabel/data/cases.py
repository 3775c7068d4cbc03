"""Cases of a dataset: image and label files that belong together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_noisylabel.data.layout import files_of, template_fields
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.problem import Problem
from monai_noisylabel.data.splits import SplitCase

__all__ = ["CaseFiles", "find_cases"]


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case, as paths relative to the dataset folder.

    Args:
        case: case id.
        patient: patient id.
        fields: fields of the image path.
        images: image files, one, or one per channel.
        labels: label files, one, or one per class.
    """

    case: str
    patient: str
    fields: dict[str, str]
    images: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def for_split(self) -> SplitCase:
        """What the split of the case is decided by."""
        return SplitCase(self.case, self.patient, self.fields, self.images[0])


class _Files:
    """Files that fit one template, found by the values of its fields."""

    def __init__(self, root: Path, template: str) -> None:
        self.template = template
        self.names = sorted(template_fields(template))
        self.found: dict[tuple[str, ...], list[str]] = {}
        self.fields: list[dict[str, str]] = []
        for path, fields in files_of(root, template):
            key = tuple(fields[name] for name in self.names)
            if key not in self.found:
                self.fields.append(fields)
            self.found.setdefault(key, []).append(path)
        self.used: set[tuple[str, ...]] = set()

    def take(self, fields: dict[str, str]) -> list[str]:
        """Files with these fields, marked as used."""
        key = tuple(fields[name] for name in self.names)
        self.used.add(key)
        return self.found.get(key, [])

    def unused(self) -> list[str]:
        """Files that no image asked for."""
        return [path for key, paths in self.found.items() if key not in self.used for path in paths]


def find_cases(manifest: Manifest, dataset_dir: str | os.PathLike[str]) -> tuple[list[CaseFiles], list[Problem]]:
    """Find the cases of a dataset by its layout; no file is opened.

    Args:
        manifest: manifest of the dataset.
        dataset_dir: folder of the dataset.

    Returns:
        Complete cases, sorted by their paths, and problems: files without counterpart, several files for one
        purpose, files outside the folder, case ids without patient id.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it fits the image template.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(
            f"Dataset folder {root} of manifest {manifest.name!r} does not exist. Obtain the dataset: {manifest.source}"
        )
    images = [_Files(root, template) for template in manifest.layout.images]
    labels = [_Files(root, template) for template in manifest.layout.labels]
    if not images[0].fields:
        raise FileNotFoundError(
            f"No image in {root} fits {images[0].template!r}, the layout of manifest {manifest.name!r}; "
            f"it holds {_listed(root)}. Give the folder that the layout starts in. "
            f"Obtain the dataset: {manifest.source}"
        )
    cases: list[CaseFiles] = []
    problems: list[Problem] = []
    for fields in images[0].fields:
        case, found = _case(manifest, root, fields, images, labels)
        problems += found
        if not found and case is not None:
            cases.append(case)
    for files in (*images[1:], *labels):
        for path in files.unused():
            message = f"no image {images[0].template!r} belongs to it; add the image or remove the file"
            problems.append(Problem(manifest.layout.case_of(path), path, "label without image", message))
    return cases, problems


def _case(
    manifest: Manifest, root: Path, fields: dict[str, str], images: Sequence[_Files], labels: Sequence[_Files]
) -> tuple[CaseFiles | None, list[Problem]]:
    """The case of an image, and what is wrong with its files."""
    name = manifest.layout.case_id(fields)
    candidates = [(files, files.take(fields)) for files in (*images, *labels)]
    first = candidates[0][1][0]
    problems: list[Problem] = []
    for files, paths in candidates:
        if not paths:
            message = f"it has no {files.template.format_map(fields)}; add that file or remove the image"
            problems.append(Problem(name, first, "image without label", message))
        if len(paths) > 1:
            message = f"{', '.join(paths)} all fit {files.template!r}; keep one of them"
            problems.append(Problem(name, paths[0], "ambiguous file", message))
        problems += [_outside(name, path) for path in paths if not _is_inside(root, path)]
    patient = manifest.patient_of(name)
    if patient is None:
        message = f"case id does not match {manifest.patient!r}; mend the name or patient in the manifest"
        problems.append(Problem(name, first, "patient id", message))
    if problems or patient is None:
        return None, problems
    paths = [found[0] for _, found in candidates]
    return CaseFiles(name, patient, fields, tuple(paths[: len(images)]), tuple(paths[len(images) :])), []


def _is_inside(root: Path, path: str) -> bool:
    """Whether a file, and each file of a series, lies in the dataset folder after links are followed."""
    inside = Path(os.path.realpath(root))
    full = root / path
    return all(
        Path(os.path.realpath(file)).is_relative_to(inside)
        for file in ([full, *full.iterdir()] if full.is_dir() else [full])
    )


def _outside(case: str, path: str) -> Problem:
    message = "a link leads out of the dataset folder; put the file itself there"
    return Problem(case, path, "outside", message)


def _listed(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir())
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
