"""The simulation of a whole dataset: noisy label files, and the record of what is wrong with them."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_noisylabel.corruption import NoiseRecipe
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset, volume_of
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.originals import lies_in
from monai_noisylabel.data.predicted_labels import PredictedLabels
from monai_noisylabel.data.problem import INCOMPLETE
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.simulate.contact_sheet import draw_contact_sheet
from monai_noisylabel.simulate.records import Records
from monai_noisylabel.simulate.simulate_case import predicted_root, simulate_case
from monai_noisylabel.simulate.summary import summarise
from monai_noisylabel.simulate.trainable import copy_missing, write_manifest

__all__ = ["SimulationReport", "simulate_dataset"]

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]
REPORTS = ("records.jsonl", "summary.json", "contact_sheet.png", "manifest.json", "recipe.json")


@dataclasses.dataclass(frozen=True)
class SimulationReport:
    """What became of every case; the slices of a volume are one case here, named like the volume.

    Args:
        written: cases whose labels were written now.
        kept: cases that an earlier run had finished.
        failed: what went wrong with each of the others; cases that the check of the dataset left out are among
            them.
        summary: what ``summary.json`` holds, see :func:`~monai_noisylabel.simulate.summary.summarise`.
        copied: number of images and untouched labels copied now.
    """

    written: list[str]
    kept: list[str]
    failed: dict[str, str]
    summary: dict[str, Any]
    copied: int = 0


def simulate_dataset(
    manifest: Manifest | str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str] | None,
    recipe: NoiseRecipe | str | Mapping[str, Any] | None,
    out_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    split: str = "train",
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
    with_images: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationReport:
    """Write the labels of a dataset with simulated noise into a folder of their own.

    Each label is made noisy on its original grid, with its real voxel size, and written under its original name,
    in its format, values, data type and header. Noise is drawn in the orientation, for the slices and under the
    case names of a training with this manifest: where its preprocessing changes neither the size of the voxels
    nor that of the image, :class:`~monai_noisylabel.transforms.SimulateLabelNoised` with the same recipe and seed
    makes the same labels. Resampling, cropping and padding change what the noise is drawn on, so after these the
    labels are only alike.

    The folder also gets ``recipe.json``; ``records.jsonl``, a line per case on what was drawn and achieved;
    ``summary.json``, the measured noise of the whole; ``contact_sheet.png``, some cases to look at; and
    ``manifest.json``, which makes it a dataset to train on if images are copied too. A run that was interrupted
    goes on where it was; a case whose files have changed since, noisy or original, is made again. A case that
    cannot be read is reported, and the others go on. Memory holds one volume at a time.

    Args:
        manifest: a manifest, the path of one, or the name of a shipped one.
        dataset_dir: folder of the dataset, which is only read; None generates the phantom.
        recipe: the noise; see :meth:`~monai_noisylabel.corruption.NoiseRecipe.parse`.
        out_dir: folder of the simulation; not in the dataset's folder.
        seed: seed of the noise.
        split: ``"train"``, whose labels alone should be noisy in a study, or ``"all"``.
        spatial_dims: 2 or 3 instead of the manifest's; 2 makes every slice of a volume a case.
        classes: subset of the class names; the others stay as they are.
        with_images: also copy the images, and the labels that are not simulated.
        overwrite: replace what an earlier simulation left in the folder.
        progress: called with the number of volumes or pictures done and their total.

    Raises:
        FileExistsError: if the folder holds anything but a part of this simulation and may not be overwritten.
        ValueError: if folders lie in each other, or manifest, recipe or predicted labels do not fit.
        FileNotFoundError: if the dataset or the predicted labels do not exist.

    Example:
        >>> import tempfile
        >>> from monai_noisylabel.data import make_phantom
        >>> root = tempfile.mkdtemp()
        >>> data = make_phantom(root + "/set", cases=5, shape=(32, 32, 8), spacing=(10, 10, 20))
        >>> recipe = {"alpha": 1.0, "models": [{"model": "boundary", "beta": 3, "direction": "dilate"}]}
        >>> report = simulate_dataset("phantom_hcc", data, recipe, root + "/noisy", spatial_dims=3)
        >>> report.written, report.summary["noisy_cases"]
        (['liver_000', 'liver_001', 'liver_004'], 3)
    """
    recipe = NoiseRecipe.parse(recipe)
    predicted = {folder: PredictedLabels(folder) for folder in recipe.label_folders}
    spec = load_dataset(manifest, dataset_dir, spatial_dims=spatial_dims, classes=classes)
    out = Path(out_dir)
    _check_folders(out, spec.dataset_dir, *map(Path, predicted))
    groups = _volumes_of(spec, split)
    roots = {"files": out, "originals": spec.dataset_dir} | {predicted_root(name): Path(name) for name in predicted}
    records = _opened(out, _identity(spec, recipe, seed, split), overwrite, roots)
    written, kept, failed = [], [], _left_out(spec)
    for number, (volume, items) in enumerate(groups.items(), start=1):
        try:
            if records.finished([item["case"] for item in items]):
                kept.append(volume)
            else:
                records.add(simulate_case(items, spec, recipe, seed, out, predicted))
                written.append(volume)
        except Exception as error:  # whatever is wrong with one case, the others must not be lost
            logger.error(f"Case {volume!r} was not simulated: {error}")
            failed[volume] = f"{type(error).__name__}: {error}"
        if progress is not None:
            progress(number, len(groups))
    done = {item["case"]: item for v, items in groups.items() if v not in failed for item in items}
    lines = records.keep(done)
    summary = summarise(lines, spec.classes, spec.multi_label)
    title = f"{spec.manifest.name}: {_in_words(recipe)}, seed {seed}"
    _report(out, spec, lines, done, {**summary, "failed": failed}, title)
    copied = copy_missing(spec, {*written, *kept}, failed, out) if with_images else 0
    return SimulationReport(written, kept, failed, summary, copied)


def _check_folders(out: Path, *read_only: Path) -> None:
    for folder in read_only:
        if lies_in(out, folder) or lies_in(folder, out):
            raise ValueError(f"{out} and {folder}, which must stay untouched, lie in each other; write elsewhere.")


def _volumes_of(spec: DatasetSpec, split: str) -> dict[str, list[Item]]:
    """Items by the volume or picture they are of."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in spec.items_of(split):
        groups[volume_of(item)].append(item)
    return groups


def _left_out(spec: DatasetSpec) -> dict[str, str]:
    """Faulty cases that the check of the dataset found; incomplete ones have no label to make noisy."""
    return {p.case: f"{p.kind}: {p.message}" for p in spec.left_out if p.kind not in INCOMPLETE}


def _identity(spec: DatasetSpec, recipe: NoiseRecipe, seed: int, split: str) -> dict[str, Any]:
    """What makes two simulations the same."""
    return {"recipe": recipe.as_dict(), "seed": seed, **spec.identity(), "split": split}


def _opened(out: Path, identity: Mapping[str, Any], overwrite: bool, roots: Mapping[str, Path]) -> Records:
    """Records of this simulation in a folder that holds nothing else."""
    path = out / "recipe.json"
    text = json.dumps(identity, indent=2) + "\n"
    fresh = not out.exists() or not any(out.iterdir())
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if not fresh and not same and not overwrite:
        what = "another simulation (see its recipe.json)" if path.is_file() else "something else"
        raise FileExistsError(f"{out} holds {what}; give another folder, or allow overwriting.")
    if overwrite and path.is_file():
        for file in [*Records(out / "records.jsonl", roots).files(), *(out / name for name in REPORTS)]:
            if lies_in(file, out):  # no link leads elsewhere
                file.unlink(missing_ok=True)
    write_atomically(text, path)
    return Records(out / "records.jsonl", roots)


def _report(
    out: Path, spec: DatasetSpec, lines: Sequence[Item], done: Mapping[str, Item], summary: Item, title: str
) -> None:
    note = f"Labels with simulated noise ({title})."
    write_manifest(spec, note, out / "manifest.json")
    write_atomically(json.dumps(summary, indent=2) + "\n", out / "summary.json")
    if lines:
        share = f"{summary['noisy_cases']} of {summary['cases']} cases noisy"
        draw_contact_sheet(lines, done, spec, out, f"{title}: {share}")


def _in_words(recipe: NoiseRecipe) -> str:
    entries = [entry["model"] for entry in recipe.as_dict()["models"]] or ["none"]
    return f"{', '.join(entries)}, alpha {recipe.alpha:g}"
