"""What a training leaves behind for people: numbers per epoch, a summary, a ranked list of labels and a picture."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import Evaluator, Trainer
from torch import nn

from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.data.unaugmented import unaugmented
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.handlers.best_model import load_weights
from monai_noisylabel.handlers.case_weights import CaseWeights
from monai_noisylabel.handlers.label_quality import LabelQuality, measure_labels
from monai_noisylabel.handlers.processes import is_main
from monai_noisylabel.handlers.report_picture import draw_report
from monai_noisylabel.handlers.report_table import print_report
from monai_noisylabel.handlers.run_history import RunHistory

__all__ = ["RunReport"]

_LAST_EPOCHS = 10


class RunReport:
    """Writes ``metrics.csv`` after every epoch and, at the end, ``summary.json``, ``labels.csv`` and ``report.png``.

    The summary holds the test Dice per class of the B-model (best on the validation set) and of the L-model (the
    last one; the gap between the two is what memorised label noise costs), the mean of the last ten evaluated
    epochs, the quality of the training labels before and after cleansing, the last value of what the method publishes
    (:class:`~monai_noisylabel.handlers.PublishedValues`), and the decisions of every label round.
    ``labels.csv`` ranks the training cases by how much the cleansed label differs from the given one; or, with
    ``weights``, by how little they count in training, which is rewritten after every epoch. Where the truth is known,
    the summary then says how well that order finds the wrong labels.

    Args:
        output_dir: where the files go.
        history: the run's rows.
        network: the trained network.
        best_path: file of the B-model's weights.
        validator: evaluator on the validation set.
        tester: evaluator on the test set; never used to choose anything.
        dataset: the training set, with its augmentation.
        classes: names of the K foreground structures.
        num_classes: classes including background (multi-class), or None (multi-label).
        store: the run's label store, if it has one.
        settings: what to say about the run in the summary, such as method, manifest, noise and seed.
        truth_known: whether the items' ``clean_label`` is the truth, as with simulated noise.
        weights: how much each training case counts, if the method weighs cases.
    """

    def __init__(
        self,
        output_dir: str | Path,
        history: RunHistory,
        network: nn.Module,
        best_path: str | Path,
        validator: Evaluator,
        tester: Evaluator,
        dataset: Dataset,
        classes: Sequence[str],
        num_classes: int | None,
        store: LabelStore | None = None,
        settings: Mapping[str, Any] | None = None,
        truth_known: bool = False,
        weights: CaseWeights | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.history = history
        self.network = network
        self.best_path = Path(best_path)
        self.evaluators = (validator, tester)
        self.dataset = dataset
        self.classes = tuple(classes)
        self.num_classes = num_classes
        self.store = store
        self.settings = dict(settings or {})
        self.truth_known = truth_known
        self.weights = weights
        self._losses: list[float] = []
        self._started = time.monotonic()

    def attach(self, engine: Trainer) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.note_epoch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def _start_epoch(self, engine: Engine) -> None:
        self._losses = []
        self._started = time.monotonic()
        engine.state.metrics.clear()  # an epoch's row holds what this epoch measured

    def _note_loss(self, engine: Engine) -> None:
        outputs: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]  # decollated
        self._losses.append(float(outputs[0]["loss"]))

    def note_epoch(self, engine: Trainer) -> None:
        """Add the epoch's row and rewrite metrics.csv."""
        row: dict[str, float] = {"epoch": engine.state.epoch}
        row["train_loss"] = sum(self._losses) / max(1, len(self._losses))
        for evaluator in self.evaluators:
            if evaluator.state.epoch == engine.state.epoch:
                row.update({name: float(value) for name, value in evaluator.state.metrics.items()})
        row.update({name: float(value) for name, value in engine.state.metrics.items()})
        self.history.rows.append(row)
        self.history.seconds += time.monotonic() - self._started
        if is_main():
            write_atomically(self.history.as_csv(), self.output_dir / "metrics.csv")
            if self.weights is not None:
                ranking = LabelQuality(self.classes, weights=self.weights.means()).ranking()
                write_atomically(ranking, self.output_dir / "labels.csv")

    def finish(self, engine: Trainer) -> None:
        """Evaluate both models on the test set and write the summary, the ranking and the picture."""
        results = self._test_both(engine)
        if not is_main():
            return
        view = unaugmented(self.dataset)
        truth_key = "clean_label" if self.truth_known else None
        items = (view[index] for index in range(len(view)))
        quality = measure_labels(items, self.classes, self.num_classes, truth_key)
        quality.weights = {} if self.weights is None else self.weights.means()
        summary = self._summary(engine, results, quality)
        write_atomically(json.dumps(_without_nan(summary), indent=2) + "\n", self.output_dir / "summary.json")
        if quality.cleansed_to_given:
            write_atomically(quality.ranking(), self.output_dir / "labels.csv")
        path = self.output_dir / "report.png"
        draw_report(self.history, view, quality, path, self.num_classes, self.truth_known)
        print_report(summary, self.output_dir)

    def _test_both(self, engine: Trainer) -> dict[str, dict[str, Any]]:
        results = {"l_model": {"epoch": engine.state.epoch, "dice": self._test(engine.state.epoch)}}
        if self.history.best_epoch:
            last = {name: value.clone() for name, value in self.network.state_dict().items()}
            load_weights(self.network, self.best_path)
            results["b_model"] = {"epoch": self.history.best_epoch, "dice": self._test(self.history.best_epoch)}
            self.network.load_state_dict(last)
        return results

    def _test(self, epoch: int) -> dict[str, float]:
        tester = self.evaluators[1]
        tester.run(global_epoch=epoch)
        names = {"mean": "test_mean_dice", **{name: f"test_mean_dice_{name}" for name in self.classes}}
        return {name: float(tester.state.metrics[key]) for name, key in names.items()}

    def _summary(self, engine: Trainer, results: dict[str, Any], quality: LabelQuality) -> dict[str, Any]:
        values = self.history.values("test_mean_dice")
        tested = [value for epoch, value in values if epoch >= self.history.first_epoch][-_LAST_EPOCHS:]
        rounds = [] if self.store is None else [self.store.record(n) for n in range(1, self.store.round + 1)]
        return {
            "settings": self.settings,
            "epochs": engine.state.epoch,
            "classes": list(self.classes),
            "test_dice": {
                **results,
                f"last_{_LAST_EPOCHS}_mean": sum(tested) / len(tested) if tested else None,
            },
            "training_labels": quality.summary(),
            "published": {name: self.history.values(name)[-1][1] for name in self.history.published()},
            "rounds": [{"round": record["round"], **record["parameters"]} for record in rounds],
            "seconds": round(self.history.seconds, 1),
            "threads": torch.get_num_threads(),
        }


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what could not be measured, such as the Dice of a class that no case has, becomes null."""
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
