"""The Dice of every test case in every evaluated epoch, and pictures of a few of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from monai_noisylabel.data.dataset_spec import volume_of
from monai_noisylabel.handlers import CaseDice
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.masks import to_masks

__all__ = ["CaseRecord"]

SHOWN_CASES = 4


class CaseRecord:
    """Writes the Dice of every test case, per structure, whenever an evaluator has run.

    Lines are added to a CSV file with the columns ``epoch``, ``case``, ``patient``, ``class`` and ``dice``; of an epoch
    that is there twice, as after an interruption, the later lines count. With them B-model (its epoch), L-model (the
    last epoch) and the mean of the last epochs are known case by case. After the last epoch, images, labels and
    predictions of four cases go to ``samples.npz`` beside it: of a volume, the slice with most foreground.

    Args:
        metric: the Dice of the evaluator.
        path: the CSV file.
        items: items of the test set.
        max_epochs: number of the last epoch.
    """

    def __init__(self, metric: CaseDice, path: str | Path, items: Iterable[Mapping[str, Any]], max_epochs: int) -> None:
        self.metric = metric
        self.path = Path(path)
        self.max_epochs = max_epochs
        self.patients = {volume_of(item): str(item["patient"]) for item in items}
        self._shown = _spread(sorted(self.patients))
        self._samples: dict[str, dict[str, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``, whose metric is attached already."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self) -> None:
        self._samples = {}

    def _collect(self, engine: Engine) -> None:
        if engine.state.epoch < self.max_epochs:
            return
        for item, output in decollated(engine):
            case = volume_of(item)
            if case in self._shown:
                sample = _sample(output, self.metric.num_classes)
                if case not in self._samples or sample["label"].sum() > self._samples[case]["label"].sum():
                    self._samples[case] = sample

    def _write(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        lines = [
            ",".join([str(epoch), _quoted(case), _quoted(self.patients[case]), _quoted(name), f"{float(value):.6f}"])
            for case, values in self.metric.per_case().items()
            for name, value in zip(self.metric.classes, values, strict=True)
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(self.path)
        header = "" if self.path.exists() else "epoch,case,patient,class,dice\n"
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(header + "".join(line + "\n" for line in lines))
        if self._samples:
            arrays: dict[str, Any] = {
                f"{case}|{key}": value for case, sample in self._samples.items() for key, value in sample.items()
            }
            np.savez_compressed(self.path.parent / "samples.npz", **arrays)


def _drop_unfinished_line(path: Path) -> None:
    """Cut off what a process that was killed had begun to write."""
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _spread(cases: list[str]) -> list[str]:
    """A few cases at equal distances."""
    return [cases[i] for i in np.linspace(0, len(cases) - 1, min(SHOWN_CASES, len(cases))).round().astype(int)]


def _sample(output: Mapping[str, Any], num_classes: int | None) -> dict[str, np.ndarray]:
    """Image, label and prediction of one plane."""
    image = torch.as_tensor(output["image"]).cpu().float().numpy()
    label, pred = (to_masks(torch.as_tensor(output[key]), num_classes).cpu().numpy() for key in ("label", "pred"))
    if label.ndim == 4:
        plane = int(label.sum((0, 1, 2)).argmax())
        image, label, pred = image[..., plane], label[..., plane], pred[..., plane]
    return {"image": image.astype(np.float16), "label": label, "pred": pred}
