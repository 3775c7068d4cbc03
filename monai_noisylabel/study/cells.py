"""The cells of a study: one training each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_noisylabel.corruption import NoiseRecipe
from monai_noisylabel.data import make_phantom
from monai_noisylabel.data.bundle_folders import bundle_digest, bundle_folder, check_options
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.study.spec import CLEAN, DatasetEntry, MethodEntry, Study

__all__ = ["BASELINE", "Cell", "CellChangedError", "cells_of", "make_datasets", "prepare_cells"]

BASELINE = "baseline"
"""Name of plain training among the methods of a study."""
DATA_FOLDER = "data"


class CellChangedError(ValueError):
    """A folder holds a run with other settings than the study now asks for."""


@dataclass(frozen=True)
class Cell:
    """One training: a method on a dataset, under a noise, with a seed.

    Attributes:
        study: name of the study.
        dataset: name of the dataset in the study.
        noise: name of the noise, or ``"clean"``.
        method: name of the method, or ``"baseline"``.
        seed: seed of training and noise.
        bundle: folder of the bundle.
        digest: checksum of the bundle's configuration.
        threads: threads of the run.
        options: options of the bundle, folders aside.
    """

    study: str
    dataset: str
    noise: str
    method: str
    seed: int
    bundle: str
    digest: str
    threads: int
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, and its folder below ``cells``."""
        return f"{self.dataset}/{self.noise}/{self.method}/seed{self.seed}"

    def folder(self, out: Path) -> Path:
        """Its folder in that of a study."""
        return out / "cells" / self.name


def cells_of(study: Study, out: Path) -> list[Cell]:
    """All trainings of a study: per dataset the baseline on clean labels, and per noise the baseline and the methods.

    Args:
        study: the study.
        out: its folder, in which generated datasets lie.

    Raises:
        FileNotFoundError: if a bundle does not exist.
        ValueError: if a method is called as the baseline and is another one, or if a bundle does not have an option.

    Example:
        >>> from monai_noisylabel.study.spec import load_study
        >>> cells = cells_of(load_study("quick"), Path("out"))
        >>> [cell.name for cell in cells[:2]]
        ['phantom/clean/baseline/seed0', 'phantom/mixed/baseline/seed0']
    """
    return list(_cells(study, out))


def _cells(study: Study, out: Path) -> Iterator[Cell]:
    baseline = study.protocol.baseline
    methods = {name: entry or MethodEntry() for name, entry in study.methods.items()}
    listed = methods.pop(BASELINE, None)
    if listed not in (None, MethodEntry(), MethodEntry(bundle=BASELINE), baseline):
        raise ValueError(
            f"methods.{BASELINE}: the name is taken by the baseline; change protocol.baseline, or the name."
        )
    for dataset, entry in study.datasets.items():
        for seed in study.seeds:
            yield _cell(study, out, dataset, CLEAN, BASELINE, baseline, seed)
        for noise in entry.noise or study.noise:
            for method, chosen in {BASELINE: baseline, **methods}.items():
                for seed in study.seeds:
                    yield _cell(study, out, dataset, noise, method, chosen, seed)


def _cell(study: Study, out: Path, dataset: str, noise: str, method: str, entry: MethodEntry, seed: int) -> Cell:
    data = study.datasets[dataset]
    folder = bundle_folder(entry.bundle or method)
    recipe = "none" if noise == CLEAN else NoiseRecipe.parse(study.noise[noise]).as_dict()
    options = {
        "manifest": data.manifest,
        "dataset_dir": _dataset_dir(data, dataset, out),
        "noise": recipe,
        "noisy_validation": study.protocol.noisy_validation and noise != CLEAN,
        "seed": seed,
        **study.overrides,
        **data.overrides,
        **entry.overrides,
    }
    check_options(folder, options)
    return Cell(
        study=study.name,
        dataset=dataset,
        noise=noise,
        method=method,
        seed=seed,
        bundle=str(folder),
        digest=bundle_digest(folder),
        threads=study.protocol.threads,
        options=options,
    )


def _dataset_dir(entry: DatasetEntry, name: str, out: Path) -> str | None:
    return entry.dataset_dir if entry.phantom is None else str(out.resolve() / DATA_FOLDER / name)


def make_datasets(study: Study, out: Path) -> None:
    """Generate the phantoms that a study describes, in its folder.

    Raises:
        ValueError: if their settings are none of :func:`~monai_noisylabel.data.make_phantom`.
    """
    for name, entry in study.datasets.items():
        if entry.phantom is not None:
            try:
                make_phantom(out.resolve() / DATA_FOLDER / name, **entry.phantom)
            except TypeError as error:
                raise ValueError(f"datasets.{name}.phantom: {error}") from None


def prepare_cells(cells: Sequence[Cell], out: Path) -> None:
    """Give every cell its folder, with ``cell.json`` in it, after a look at all that are there already.

    Raises:
        CellChangedError: if a folder holds a run with other settings, with what differs; nothing is written then.
    """
    for cell in cells:
        path = cell.folder(out) / "cell.json"
        if path.exists():
            _refuse_changes(cell, json.loads(path.read_text(encoding="utf-8")), path)
    for cell in cells:
        path = cell.folder(out) / "cell.json"
        if not path.exists():
            write_atomically(json.dumps(asdict(cell), indent=2) + "\n", path)


def _refuse_changes(cell: Cell, found: Mapping[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(asdict(cell)))
    before, now = (
        {**{key: entry[key] for key in ("study", "digest", "threads")}, **entry["options"]} for entry in (found, wanted)
    )
    changed = [
        f"{key}: {before.get(key, 'not set')} there, {now.get(key, 'not set')} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise CellChangedError(
            f"{path.parent} holds a run with other settings ({'; '.join(changed)}). Give the study another --out, or "
            "remove that folder to run it anew."
        )
