"""Dice per class over cases, with the slices of a volume counted together."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.handlers.processes import gather_from_all, is_main
from monai_noisylabel.metrics import dice, overlap

__all__ = ["CaseDice", "write_case_table"]


class CaseDice:
    """Mean Dice over cases and classes as an evaluator's metric.

    The overlap counts of all slices of one volume are added before the coefficient is taken, so slice-wise and
    volume-wise methods are compared on equal terms and empty slices need no convention. A class that is in neither
    the prediction nor the label of a case does not count for that case.

    The mean over classes is stored as ``engine.state.metrics[name]``, each class as ``<name>_<class>``. All ranks of a
    distributed evaluation arrive at the same numbers; a case seen twice by a padded sampler counts once.

    Args:
        classes: names of the K foreground structures.
        num_classes: classes including background (multi-class), or None (multi-label).

    Shape:
        items of ``engine.state.output``: ``pred`` and ``label`` as label maps, (1, \\*S) or (K, \\*S).

    Raises:
        KeyError: if an item of ``engine.state.batch`` names neither its ``volume`` nor its ``case``.
    """

    def __init__(self, classes: Sequence[str], num_classes: int | None) -> None:
        self.classes = tuple(classes)
        self.num_classes = num_classes
        self._counts: dict[str, tuple[str, Tensor]] = {}

    def attach(self, engine: Engine, name: str) -> None:
        """Measure every epoch of ``engine`` under ``name``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.publish, name)

    def reset(self, engine: Engine | None = None) -> None:
        """Forget all cases."""
        self._counts = {}

    def update(self, engine: Engine) -> None:
        """Count the overlaps of one decollated batch."""
        for item, output in decollated(engine):
            volume = str(item["volume"] if "volume" in item else item["case"])
            counts = overlap(output["pred"], output["label"], self.num_classes)
            self._counts[str(item["case"])] = (volume, counts)

    def per_case(self) -> dict[str, Tensor]:
        """Dice per case, (K,) each, over all ranks, in the order of the cases' names."""
        counts = {case: entry for part in gather_from_all(self._counts) for case, entry in part.items()}
        volumes: dict[str, Tensor] = {}
        for _, (volume, count) in sorted(counts.items()):
            volumes[volume] = volumes[volume] + count if volume in volumes else count
        return {volume: dice(volumes[volume]) for volume in sorted(volumes)}

    def publish(self, engine: Engine, name: str) -> None:
        """Store the means in ``engine.state.metrics``."""
        cases = torch.stack(list(self.per_case().values()))
        per_class = cases.nanmean(0)
        engine.state.metrics[name] = float(per_class.nanmean())
        for class_name, value in zip(self.classes, per_class, strict=True):
            engine.state.metrics[f"{name}_{class_name}"] = float(value)


def write_case_table(metric: CaseDice, path: str | Path) -> None:
    """Write the Dice of every case of the last evaluation as CSV, the worst case first, and print the means.

    Args:
        metric: the metric after an evaluation.
        path: the CSV file.
    """
    cases = metric.per_case()
    if not is_main():
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "mean", *metric.classes])
    for case in sorted(cases, key=lambda case: float(cases[case].nanmean().nan_to_num(1.0))):
        writer.writerow(
            [case, f"{float(cases[case].nanmean()):.4f}", *(f"{float(value):.4f}" for value in cases[case])]
        )
    write_atomically(text.getvalue(), Path(path))
    means = torch.stack(list(cases.values())).nanmean(0)
    values = ", ".join(f"{name} {float(value):.4f}" for name, value in zip(metric.classes, means, strict=True))
    print(f"Dice over {len(cases)} cases: {values}. Per case: {path}", flush=True)
