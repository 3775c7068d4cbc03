"""A dataset ready for training: which items each split holds, and which cases were left out."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_noisylabel.data.cases import CaseFiles
from monai_noisylabel.data.check import Report, check_dataset
from monai_noisylabel.data.check_rules import foreground_slices
from monai_noisylabel.data.file_facts import FileFacts
from monai_noisylabel.data.manifest import Manifest, load_manifest
from monai_noisylabel.data.phantom import cached_phantom
from monai_noisylabel.data.problem import Problem
from monai_noisylabel.data.splits import SPLITS

__all__ = ["DatasetSpec", "dataset_folder", "load_dataset", "volume_of"]

Item = dict[str, Any]
MAX_LINES = 20
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSpec:
    """What a bundle needs to know about a dataset.

    An item has the keys ``image`` and ``label`` (absolute path, or a list of paths: one per channel, one per
    class), ``case`` and ``patient``; the slice of a volume has ``slice`` (its number along the last axis
    after orientation) and ``volume`` (case id of the volume) as well, and its case id is
    ``<volume>/<number>`` with three digits or more.

    Args:
        manifest: manifest of the dataset.
        dataset_dir: its folder.
        classes: names of the foreground structures.
        spatial_dims: 2 or 3, of the images the network sees.
        train: items to train on.
        val: items to choose a model by.
        test: items to report on.
        left_out: why cases are not used.
        notes: remarks on cases that are used.
    """

    manifest: Manifest
    dataset_dir: Path
    classes: tuple[str, ...]
    spatial_dims: int
    train: list[Item]
    val: list[Item]
    test: list[Item]
    left_out: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def multi_label(self) -> bool:
        """Whether structures may overlap: a label then has one binary channel per class."""
        return self.manifest.task == "multi_label"

    @property
    def num_classes(self) -> int:
        """Output channels of a network: one per class, and for exclusive classes one for the background."""
        return len(self.classes) + (0 if self.multi_label else 1)

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.manifest.channels

    @property
    def label_values(self) -> dict[str, tuple[int, ...] | None]:
        """Values of each class in the label file; None for everything that is not 0."""
        return {name: self.manifest.values(name) for name in self.classes}

    def case_of(self, image_path: str | os.PathLike[str]) -> str:
        """Case id of an image path in this or another folder; the volume's id for a volume.

        A path that does not fit the layout gives its file name without extension.
        """
        return self.manifest.layout.case_of(image_path)

    def items_of(self, split: str) -> list[Item]:
        """Items of the training set (``"train"``), or of all three splits (``"all"``).

        Raises:
            ValueError: for another split.
        """
        if split not in ("train", "all"):
            raise ValueError(f"split must be 'train' or 'all', got {split!r}.")
        return self.train if split == "train" else [*self.train, *self.val, *self.test]

    def identity(self) -> dict[str, Any]:
        """By what work on a dataset can tell whether it was begun on the same one, as plain values."""
        return {
            "manifest": self.manifest.name,
            "manifest_sha256": hashlib.sha256(self.manifest.model_dump_json().encode()).hexdigest(),
            "spatial_dims": self.spatial_dims,
            "classes": list(self.classes),
        }

    def describe(self) -> str:
        """Counts per split and cases left out, as a short text."""
        form = "multi-label" if self.multi_label else "multi-class"
        lines = [
            f"{self.manifest.name} ({self.manifest.modality}, {self.spatial_dims}D, {form}: "
            f"{', '.join(self.classes)}) in {self.dataset_dir}"
        ]
        for split, items in (("train", self.train), ("val", self.val), ("test", self.test)):
            volumes = set(map(volume_of, items))
            patients = {item["patient"] for item in items}
            slices = f"{len(items)} slices of " if any("slice" in item for item in items) else ""
            lines.append(f"  {split}: {slices}{len(volumes)} cases of {len(patients)} patients")
        return "\n".join(lines + _listed("left out", self.left_out) + _listed("note", self.notes))


def volume_of(item: Mapping[str, Any]) -> str:
    """Case id of the volume that an item is a slice of; its own where it is none.

    Example:
        >>> volume_of({"case": "ann/007", "volume": "ann"}), volume_of({"case": "ann"})
        ('ann', 'ann')
    """
    return str(item.get("volume", item["case"]))


def load_dataset(
    manifest: Manifest | str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str] | None = None,
    *,
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
    complete: bool = True,
) -> DatasetSpec:
    """Find, check and split a dataset.

    Files that have not changed since a former check are not read again. Cases that cannot be used are left
    out, with one warning that lists them.

    Args:
        manifest: a manifest, the path of one, or the name of a shipped one.
        dataset_dir: folder of the dataset; None generates the phantom of the manifest ``phantom_hcc``.
        spatial_dims: 2 or 3 instead of the manifest's; 2 cuts volumes into slices.
        classes: subset of the class names, kept in the manifest's order; what the others mark becomes
            background.
        size: final size of the images in voxels instead of the manifest's.
        complete: whether every split must hold something, as a training needs it.

    Raises:
        FileNotFoundError: if the folder is missing or holds no image; the message says where to obtain the
            dataset.
        ValueError: if an argument does not fit the manifest, or a split is empty although it must not be.

    Example:
        >>> import tempfile
        >>> from monai_noisylabel.data.phantom import make_phantom
        >>> size = {"shape": (32, 32, 8), "spacing": (10, 10, 20)}
        >>> folder = make_phantom(tempfile.mkdtemp() + "/set", cases=5, **size)
        >>> spec = load_dataset("phantom_hcc", folder, spatial_dims=3)
        >>> spec.classes, spec.num_classes, [len(items) for items in (spec.train, spec.val, spec.test)]
        (('liver', 'tumour'), 3, [3, 1, 1])
    """
    if not isinstance(manifest, Manifest):
        manifest = load_manifest(manifest)
    if size is not None:
        manifest = resized(manifest, size)
    dims = spatial_dims or manifest.spatial_dims
    _check_dims(manifest, dims)
    chosen = chosen_classes(manifest, classes)
    report = check_dataset(
        manifest, dataset_folder(manifest, dataset_dir), spatial_dims=dims, cached=True, only_used=True
    )
    items = {split: _items(report, report.splits[split], dims, chosen) for split in SPLITS}
    notes = [problem for problem in report.problems if not problem.fatal]
    spec = DatasetSpec(manifest, report.dataset_dir, chosen, dims, **items, left_out=report.left_out, notes=notes)
    empty = [split for split in SPLITS if not items[split]]
    if empty and complete:
        raise ValueError(
            f"Dataset {manifest.name!r}: nothing to use for {', '.join(empty)}. Mend the cases that were "
            f"left out, or the splits of the manifest.\n{spec.describe()}"
        )
    if spec.left_out or spec.notes:
        logger.warning("Dataset %s\n%s", manifest.name, "\n".join(spec.describe().splitlines()[1:]))
    return spec


def resized(manifest: Manifest, size: Sequence[int]) -> Manifest:
    """Manifest with another final size, validated as if it had been written so."""
    content = manifest.model_dump()
    content["preprocessing"]["size"] = list(size)
    return Manifest.model_validate(content)


def _check_dims(manifest: Manifest, dims: int) -> None:
    if dims not in (2, 3):
        raise ValueError(f"spatial_dims is 2 or 3, got {dims}.")
    settings = manifest.preprocessing
    crop = settings.crop.size if settings.crop else None
    for name, value in (("spacing", settings.spacing), ("crop.size", crop), ("size", settings.size)):
        if value is not None and len(value) < dims:
            raise ValueError(
                f"Manifest {manifest.name!r}: preprocessing.{name} {value} has {len(value)} numbers, a 3D "
                "run needs three; write them into a copy of the manifest, or choose spatial_dims 2."
            )


def chosen_classes(manifest: Manifest, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes asked for, all where None, in the manifest's order; ValueError if one is unknown."""
    if classes is None:
        return tuple(manifest.classes)
    if isinstance(classes, str) or not classes or any(name not in manifest.classes for name in classes):
        raise ValueError(
            f"classes {classes!r}: give a list of one or more of {list(manifest.classes)}, the classes of "
            f"manifest {manifest.name!r}."
        )
    return tuple(name for name in manifest.classes if name in classes)


def dataset_folder(manifest: Manifest, dataset_dir: str | os.PathLike[str] | None) -> Path:
    """Folder of a dataset; without ``dataset_dir``, the phantom of the manifest ``phantom_hcc`` is generated.

    Raises:
        ValueError: if ``dataset_dir`` is missing; the message says where the dataset can be obtained.
    """
    if dataset_dir is not None:
        return Path(dataset_dir)
    if manifest.name == "phantom_hcc":
        return cached_phantom()
    raise ValueError(
        f"Manifest {manifest.name!r} needs dataset_dir, the folder with the dataset. "
        f"Obtain the dataset: {manifest.source}"
    )


def _items(report: Report, cases: Sequence[CaseFiles], dims: int, classes: Sequence[str]) -> list[Item]:
    """Items of one split: a case each, or a slice of a volume each."""
    items: list[Item] = []
    for case in cases:
        item = _item(case, report.manifest, report.dataset_dir, classes)
        shape = report.facts[case.images[0]].shape
        if dims == 3 or len(shape) < 3:
            items.append(item)
            continue
        for number in _slices(case, report.facts, report.manifest, classes):
            cut = {"case": f"{case.case}/{number:03d}", "slice": number, "volume": case.case}
            items.append({**item, **cut})
    return items


def _item(case: CaseFiles, manifest: Manifest, root: Path, classes: Sequence[str]) -> Item:
    images = [str(root / file) for file in case.images]
    labels = [str(root / file) for file in case.labels]
    label: str | list[str] = labels[0]
    if isinstance(manifest.layout.label, dict):
        of_class = dict(zip(manifest.layout.label, labels, strict=True))
        label = [of_class[name] for name in classes]
    image = images[0] if isinstance(manifest.layout.image, str) else images
    return {"image": image, "label": label, "case": case.case, "patient": case.patient}


def _slices(
    case: CaseFiles, facts: Mapping[str, FileFacts], manifest: Manifest, classes: Sequence[str]
) -> Sequence[int]:
    chosen = manifest.preprocessing.slices
    every = range(facts[case.images[0]].slice_count(manifest.preprocessing.orientation))
    if isinstance(chosen, dict) and case.case in chosen:
        outside = [number for number in chosen[case.case] if number not in every]
        if outside:
            raise ValueError(
                f"Manifest {manifest.name!r}: preprocessing.slices of case {case.case!r} names {outside}, but its "
                f"volume has the slices 0 to {every[-1]}."
            )
        return sorted(set(chosen[case.case]))
    return every if chosen == "all" else foreground_slices(case, facts, manifest, classes)


def _listed(title: str, problems: Sequence[Problem]) -> list[str]:
    """Lines of a list that stays readable when it is long."""
    lines = [f"  {title}: {problem}" for problem in problems[:MAX_LINES]]
    if len(problems) > MAX_LINES:
        lines.append(f"  {title}: {len(problems) - MAX_LINES} more; `noisylabel data check` lists all")
    return lines
