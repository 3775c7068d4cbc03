"""Out-of-sample probabilities from a bundle: one training per fold, each in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_noisylabel.audit.predictions import probability_path
from monai_noisylabel.data.bundle_folders import bundle_folder, check_options
from monai_noisylabel.data.dataset_spec import DatasetSpec, volume_of
from monai_noisylabel.data.folds import patient_folds
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["BundleFolds", "fold_manifests", "predict_by_folds"]

Item = Mapping[str, Any]
Report = Callable[[str], None]

VALIDATION_SHARE = 0.15
"""Of the patients that a fold does not hold out; their labels, as they are, choose the model."""

OWN = ("bundle_root", "ckpt_dir", "output_dir", "manifest", "dataset_dir", "spatial_dims", "classes", "noise", "resume")
LAST_LINES = 15

PREDICT = {
    "preprocessing": "$monai_noisylabel.data.preprocessing(@data)",
    "dataset": {
        "_target_": "Dataset",
        "data": {
            "_target_": "monai_noisylabel.audit.predictions.held_out_items",
            "manifest": "@manifest",
            "dataset_dir": "@dataset_dir",
            "output_dir": "@output_dir",
            "spatial_dims": "@spatial_dims",
            "classes": "@classes",
        },
        "transform": "@preprocessing",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Activationsd",
                "keys": "pred",
                "sigmoid": "$@data.multi_label",
                "softmax": "$not @data.multi_label",
            },
            {"_target_": "monai_noisylabel.audit.predictions.AddCoveraged", "keys": "pred"},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {
                "_target_": "monai_noisylabel.audit.predictions.SaveProbabilityd",
                "keys": "pred",
                "output_dir": "@output_dir",
            },
        ],
    },
}
"""What the prediction of held-out cases changes in the inference.json of any bundle.

The label is read along: where preprocessing crops around it, the network sees held-out cases as it saw the others.
"""


@dataclass(frozen=True)
class BundleFolds:
    """How out-of-sample probabilities are made.

    Args:
        bundle: name of a bundle that comes with the library, or folder of a bundle with ``configs/train.json`` and
            ``configs/inference.json``.
        folds: number of folds, at least 2.
        overrides: options of the bundle as ``name=value``, such as ``max_epochs=20``.
        seed: seed of the division into folds.

    Raises:
        FileNotFoundError: if there is no such bundle, or one that cannot predict.
        ValueError: if an option is not of this form, none of the bundle's, or one that the audit sets itself.
    """

    bundle: str | Path
    folds: int = 2
    overrides: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.folder / "configs" / "inference.json").is_file():
            raise FileNotFoundError(f"The bundle {self.bundle} has no configs/inference.json, so it cannot predict.")
        for option in self.overrides:
            found = re.fullmatch(r"([A-Za-z]\w*)([\w#:]*)=.*", option, re.DOTALL)
            if found is None:
                raise ValueError(f"--override {option!r}: write an option of the bundle as name=value, max_epochs=20.")
            if found[1] in OWN:
                raise ValueError(f"--override {option!r}: the audit sets {found[1]} itself; leave it out.")
            check_options(self.folder, [found[1]])

    @property
    def folder(self) -> Path:
        """Folder of the bundle."""
        return bundle_folder(self.bundle)

    def as_dict(self) -> dict[str, Any]:
        """What two audits must agree on to share probabilities."""
        return {
            "bundle": self.folder.name,
            "folds": self.folds,
            "overrides": list(self.overrides),
            "seed": self.seed,
        }


def fold_manifests(spec: DatasetSpec, items: Sequence[Item], folds: int, seed: int) -> list[Manifest]:
    """One manifest per fold: its cases are the test set, those of the other patients training and validation.

    Validation takes 15 % of the other patients, at least one, with the labels that they have; it only chooses the
    model among the epochs.

    Args:
        spec: the dataset.
        items: the cases to predict out of sample.
        folds: number of folds, at least 2.
        seed: seed of the division.

    Raises:
        ValueError: as :func:`~monai_noisylabel.data.folds.patient_folds`, or if there are fewer than 3 patients.
    """
    fold_of = patient_folds(items, folds, seed)
    made = []
    for fold in range(folds):
        inside = [item for item, number in zip(items, fold_of, strict=True) if number == fold]
        outside = [item for item, number in zip(items, fold_of, strict=True) if number != fold]
        patients = spec.manifest.splits.ordered({str(item["patient"]) for item in outside})
        if len(patients) < 2:
            raise ValueError(
                f"Fold {fold + 1} of {folds} leaves one patient to train on, and another is needed for validation; "
                "audit more patients at a time, or choose more folds."
            )
        chosen = set(patients[: max(1, round(VALIDATION_SHARE * len(patients)))])
        splits = {
            "train": {"cases": _volumes(item for item in outside if str(item["patient"]) not in chosen)},
            "val": {"cases": _volumes(item for item in outside if str(item["patient"]) in chosen)},
            "test": {"cases": _volumes(inside)},
        }
        content = {**spec.manifest.model_dump(mode="json"), "splits": splits}
        made.append(Manifest.model_validate({**content, "name": f"{spec.manifest.name}_fold{fold + 1}of{folds}"}))
    return made


def predict_by_folds(spec: DatasetSpec, items: Sequence[Item], how: BundleFolds, out: Path, report: Report) -> Path:
    """Train a bundle once per fold and let it predict the cases it did not train on.

    What is there already is not made again, and a training that was interrupted goes on after its last epoch.

    Args:
        spec: the dataset; what its ``dataset_dir`` holds is only read.
        items: the cases to predict; slices stand for their volume.
        how: bundle, folds and options.
        out: folder of the audit.
        report: called with a line on what is going on.

    Returns:
        Folder of the probabilities, one file per case.

    Raises:
        RuntimeError: if a training or prediction fails, with the end of its log.
        ValueError: as :func:`fold_manifests`.
    """
    target = out / "probabilities"
    for number, manifest in enumerate(fold_manifests(spec, items, how.folds, how.seed), start=1):
        wanted = [probability_path(target, case) for case in manifest.splits.test.cases or ()]
        if all(path.exists() for path in wanted):
            continue
        folder = out / "folds" / f"fold{number}"
        path = folder / "manifest.json"
        content = manifest.model_dump(mode="json", exclude_defaults=True)
        write_atomically(json.dumps(content, indent=2) + "\n", path)
        title = f"fold {number} of {how.folds}"
        finished = folder / "trained"
        if not finished.exists():
            _run(_command(spec, how, folder, path, None), folder / "training.log", f"{title}, training", report)
            write_atomically("", finished)
        _run(_command(spec, how, folder, path, target), folder / "prediction.log", f"{title}, predicting", report)
    return target


def _volumes(items: Iterable[Item]) -> list[str]:
    return list(dict.fromkeys(map(volume_of, items)))


def _command(spec: DatasetSpec, how: BundleFolds, folder: Path, manifest: Path, predict_to: Path | None) -> list[str]:
    """Command line of a fold's training, or of its prediction into a folder."""
    configs = how.folder / "configs"
    files = str(configs / "train.json")
    if predict_to is not None:
        write_atomically(json.dumps(PREDICT, indent=2) + "\n", folder / "predict.json")
        files = str([str(configs / "inference.json"), str(folder / "predict.json")])
    known = None if predict_to is None else json.loads((configs / "inference.json").read_text(encoding="utf-8"))
    options = {
        "bundle_root": str(how.folder),
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(predict_to or folder / "eval"),
        "manifest": str(manifest),
        "dataset_dir": str(spec.dataset_dir),
        "spatial_dims": str(spec.spatial_dims),
        "classes": str(list(spec.classes)),
        **({} if predict_to is not None else {"noise": "none"}),
    }
    for option in how.overrides:
        name, _, value = option.partition("=")
        if known is None or re.split("[#:]", name)[0] in known:
            options[name] = value
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, *pairs]


def _run(command: Sequence[str], log: Path, title: str, report: Report) -> None:
    """Run a command, its output going to a file, and report the last line of it once a second."""
    report(title)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                _wait(process)
                report(f"{title}: {_last_lines(log, 1)}")
        except BaseException:  # Ctrl-C has reached the training too, which keeps its last epoch
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise RuntimeError(
            f"{title} failed with exit code {process.returncode}. The end of {log}:\n{_last_lines(log, LAST_LINES)}"
        )


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return


def _last_lines(log: Path, count: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4000))
        text = stream.read().decode(errors="replace").replace("\r", "\n")
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
