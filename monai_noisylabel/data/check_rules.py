"""The rules by which one case is judged: its files against the manifest and against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from nibabel.orientations import aff2axcodes, inv_ornt_aff, io_orientation, ornt_transform

from monai_noisylabel.data.cases import CaseFiles
from monai_noisylabel.data.file_facts import FileFacts, is_picture
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.problem import Problem

__all__ = ["case_problems", "foreground_slices"]

SHIFT_ALLOWED = 0.1  # of the smallest voxel edge, between the same corners of image and label


def case_problems(
    case: CaseFiles, facts: Mapping[str, FileFacts], manifest: Manifest, spatial_dims: int | None = None
) -> list[Problem]:
    """Everything that is wrong with one case whose files have been read.

    Args:
        case: the case.
        facts: facts of its files, by path relative to the dataset folder.
        manifest: manifest of the dataset.
        spatial_dims: dimensions of the run; the manifest's by default.

    Returns:
        Problems, the fatal ones first.
    """
    unreadable = [
        Problem(case.case, file, "unreadable", str(facts[file].error))
        for file in (*case.images, *case.labels)
        if facts[file].error is not None
    ]
    readable = [file for file in case.images if facts[file].error is None]
    labels = [(i, file) for i, file in enumerate(case.labels) if facts[file].error is None]
    problems = [*unreadable]
    for file in readable:
        problems += _of_image(case, file, facts[file], manifest, spatial_dims or manifest.spatial_dims)
    for number, file in labels:
        problems += _of_label(case, file, facts[file], manifest, number)
    files = [*readable, *(file for _, file in labels)]
    if readable:
        dicom = manifest.layout.images[0].endswith("/")
        for file in files[1:]:
            problems += _of_pair(case, files[0], file, facts[files[0]], facts[file], dicom)
    if not any(problem.fatal for problem in problems) and not _foreground(case, facts, manifest):
        message = "no voxel is labelled; remove the case if that cannot be true"
        problems.append(Problem(case.case, case.labels[0], "empty label", message, fatal=False))
    return sorted(problems, key=lambda problem: not problem.fatal)


def foreground_slices(
    case: CaseFiles, facts: Mapping[str, FileFacts], manifest: Manifest, classes: Sequence[str]
) -> list[int]:
    """Slices of a volume, along the last axis after orientation, that hold at least one of the classes."""
    return sorted(
        {k for file, values in _files_of_classes(case, manifest, classes) for k in facts[file].slices_with(values)}
    )


def _files_of_classes(
    case: CaseFiles, manifest: Manifest, classes: Sequence[str]
) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Label file and values of each class."""
    for name in classes:
        index = list(manifest.layout.label).index(name) if isinstance(manifest.layout.label, dict) else 0
        yield case.labels[index], manifest.values(name)


def _foreground(case: CaseFiles, facts: Mapping[str, FileFacts], manifest: Manifest) -> bool:
    for file, values in _files_of_classes(case, manifest, list(manifest.classes)):
        present = facts[file].values or ()
        if any(value > 0 for value in present) if values is None else set(values) & set(present):
            return True
    return False


def _of_image(case: CaseFiles, file: str, facts: FileFacts, manifest: Manifest, spatial_dims: int) -> Iterator[Problem]:
    expected = manifest.channels if len(case.images) == 1 else 1
    if spatial_dims == 3 and len(facts.shape) != 3:
        message = "the image has two dimensions, the run needs volumes; set spatial_dims to 2"
        yield Problem(case.case, file, "dimensions", message)
    if not is_picture(file) and facts.channels != expected:  # pictures are converted to grey or colour on reading
        message = f"{facts.channels} channels, the manifest says {expected}"
        yield Problem(case.case, file, "channels", message)
    if not facts.finite:
        yield Problem(case.case, file, "not finite", "NaN or infinite intensities; replace them, e.g. by the air value")
    if facts.low == facts.high:
        yield Problem(case.case, file, "constant image", f"every finite intensity is {facts.low:g}; export it again")


def _of_label(case: CaseFiles, file: str, facts: FileFacts, manifest: Manifest, number: int) -> Iterator[Problem]:
    if facts.channels > 1:
        message = f"{facts.channels} channels that differ; give the classes as colours, or a label file per class"
        yield Problem(case.case, file, "channels", message)
        return
    if facts.fractional is not None:
        message = f"value {facts.fractional:g} is no whole number; export labels without interpolation"
        yield Problem(case.case, file, "label values", message)
        return
    present = facts.values or ()
    label = manifest.layout.label
    names = [list(label)[number]] if isinstance(label, dict) else list(manifest.classes)
    allowed = [manifest.values(name) for name in names]
    if None in allowed:
        if len(present) > 2:
            message = f"{len(present)} values {_listed(present)} instead of two; all but 0 count as {names[0]}"
            yield Problem(case.case, file, "label values", message, fatal=False)
        if present and present[0] < 0:
            yield Problem(case.case, file, "label values", f"negative value {present[0]}; label values start at 0")
        return
    known = {value for values in allowed for value in values or ()} | manifest.background_values
    unknown = [value for value in present if value not in known]
    if unknown:
        shown = [f"#{value:06x}" for value in unknown] if manifest.coloured else unknown
        message = f"unknown values {_listed(shown)}; name them in classes or background of the manifest"
        yield Problem(case.case, file, "label values", message)


def _of_pair(case: CaseFiles, image: str, other: str, one: FileFacts, two: FileFacts, dicom: bool) -> Iterator[Problem]:
    """Whether a file lies on the grid of the image; in any orientation beside a DICOM series, which has no choice."""
    if dicom:
        two = _turned_to(two, one)
    if one.shape != two.shape:
        message = f"{_by(two.shape)} voxels, {image} has {_by(one.shape)}; resample it to the grid of the image"
        yield Problem(case.case, other, "shape", message)
        return
    if one.affine is None or two.affine is None:
        return
    first, second = np.array(one.affine), np.array(two.affine)
    codes = ["".join(str(code) for code in aff2axcodes(affine)) for affine in (first, second)]
    if codes[0] != codes[1]:
        message = f"oriented {codes[1]}, {image} is oriented {codes[0]}; write both with the same header"
        yield Problem(case.case, other, "orientation", message)
        return
    extent = [(0, n - 1) for n in (*one.shape, 1, 1)[:3]]
    corners = np.array(np.meshgrid(*extent, [1], indexing="ij")).reshape(4, -1)
    shift = float(np.linalg.norm((first - second) @ corners, axis=0).max())
    if not shift <= SHIFT_ALLOWED * float(np.linalg.norm(first[:3, :3], axis=0).min()):
        message = f"its affine puts it up to {shift:.3g} mm away from {image}; write both with the same header"
        yield Problem(case.case, other, "affine", message)


def _turned_to(facts: FileFacts, image: FileFacts) -> FileFacts:
    """Facts of a volume as if its voxels were stored in the order of the image's."""
    if facts.affine is None or image.affine is None:
        return facts
    affine = np.array(facts.affine)
    turn = ornt_transform(io_orientation(affine), io_orientation(np.array(image.affine)))
    shape = [0, 0, 0]
    for size, axis in zip(facts.shape, turn[:, 0].astype(int), strict=True):
        shape[axis] = size
    return replace(facts, shape=tuple(shape), affine=(affine @ inv_ornt_aff(turn, facts.shape)).tolist())


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
