"""What makes a comparison void: noisy test labels, and patients on both sides of a split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from monai_noisylabel.data import DatasetSpec
from monai_noisylabel.data.dataset_spec import volume_of
from monai_noisylabel.transforms import LoadStoredLabeld, RandLabelNoised, SimulateLabelNoised

__all__ = ["DishonestError", "refuse_dishonest_data", "refuse_noisy_test"]

CHANGES_LABELS = (SimulateLabelNoised, RandLabelNoised, LoadStoredLabeld)


class DishonestError(ValueError):
    """A training whose numbers would not mean what a table says they mean."""


def refuse_dishonest_data(spec: DatasetSpec) -> None:
    """Refuse a dataset with a patient in two splits, or with simulated noise in its test labels.

    Args:
        spec: the dataset as it is trained on.

    Raises:
        DishonestError: with the patients or cases, and how to mend it.
    """
    crossing = [problem for problem in spec.left_out if problem.kind == "duplicate patient"]
    if crossing:
        listed = "; ".join(f"{problem.case}: {problem.message}" for problem in crossing[:3])
        raise DishonestError(
            f"Dataset {spec.manifest.name!r}: {len(crossing)} cases are of patients that are in two splits ({listed}). "
            "Mend the splits of the manifest: a study takes each patient for one purpose only."
        )
    _refuse_shared_patients({"train": spec.train, "val": spec.val, "test": spec.test}, spec.manifest.name)
    noisy = _simulated(spec.dataset_dir) & set(map(volume_of, spec.test))
    if noisy:
        raise DishonestError(
            f"Dataset {spec.manifest.name!r} in {spec.dataset_dir}: {len(noisy)} test labels have simulated noise, as "
            f"{min(noisy)!r}. Simulate with --split train, or take the noise into the study and the original dataset."
        )


def _refuse_shared_patients(splits: Mapping[str, Iterable[Mapping[str, Any]]], name: str) -> None:
    holder: dict[str, str] = {}
    for split, items in splits.items():
        for item in items:
            other = holder.setdefault(str(item["patient"]), split)
            if other != split:
                raise DishonestError(f"Dataset {name!r}: patient {item['patient']} is in {other} and in {split}.")


def _simulated(folder: Path) -> set[str]:
    """Cases (volumes) whose label ``noisylabel simulate`` changed in this folder."""
    path = folder / "records.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    changed = [record for record in records if any(dice < 1 for dice in record["dice"].values())]
    return {str(record["case"]) for record in changed} | {str(record["case"]).rsplit("/", 1)[0] for record in changed}


def refuse_noisy_test(preprocessing: Any) -> None:
    """Refuse a bundle that changes the labels it is tested on.

    Args:
        preprocessing: the transforms of its test set.

    Raises:
        DishonestError: with the transform.
    """
    steps = preprocessing.flatten().transforms if isinstance(preprocessing, Compose) else (preprocessing,)
    for step in steps:
        if isinstance(step, CHANGES_LABELS):
            raise DishonestError(
                f"The test labels of this bundle pass through {type(step).__name__}: its test#preprocessing must not "
                "change labels."
            )
