"""What a run leaves behind, on a network whose one weight is the size of the structure it predicts."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from handler_fakes import fake_evaluator, fake_trainer
from ignite.engine import Engine
from monai.data import CacheDataset, Dataset
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from monai.transforms import Compose, RandLambdad
from torch import Tensor, nn

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import BestModel, CaseDice, CaseWeights, RunHistory, RunReport, run_report


def patch(count: int, shape: tuple[int, ...] = (4, 6)) -> Tensor:
    """A label whose first ``count`` voxels are foreground: Dice of two is 2 min(a, b) / (a + b)."""
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label.view(-1)[:count] = 1
    return label


def _item(case: str, given: int, used: int | None = None, truth: int | None = None, **more: Any) -> dict[str, Any]:
    item = {"case": case, "image": torch.arange(24.0).view(1, 4, 6), "label": patch(given), **more}
    item |= {} if used is None else {"pseudo_label": patch(used)}
    return item | ({} if truth is None else {"clean_label": patch(truth)})


# Dice given to clean, cleansed to clean, cleansed to given: a 2/5 1 2/5, b 1 1 1
CLEANSED = [_item("a", 1, 4, 4), _item("b", 4, 4, 4)]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was to be drawn; the picture has tests of its own."""
    calls: list[Any] = []
    monkeypatch.setattr(run_report, "draw_report", lambda *arguments: calls.append(arguments))
    return calls


class Run:
    """A run in which the network's weight, the size that it predicts, is ``sizes[epoch - 1]`` in each epoch.

    The validation case has 5 voxels and the test case 6.
    """

    def __init__(
        self,
        folder: Path,
        sizes: list[int],
        items: list[dict[str, Any]] = CLEANSED,
        interval: int = 1,
        dataset: Dataset | None = None,
        **options: Any,
    ) -> None:
        self.folder, self.sizes = folder, sizes
        self.network = nn.Linear(1, 1, bias=False)
        self.history = RunHistory()
        best = BestModel(self.network, folder / "models" / "model.pt", self.history)
        validator, self.tester = self._evaluator("val", 5, [best]), self._evaluator("test", 6)
        steps = Compose([RandLambdad("label", lambda label: 0 * label)])  # an augmentation that would spoil the report
        self.report = RunReport(
            folder / "eval",
            self.history,
            self.network,
            best.path,
            validator,
            self.tester,
            Dataset(items, steps) if dataset is None else dataset,
            ["liver"],
            2,
            **options,
        )
        evaluations = [ValidationHandler(interval, evaluator) for evaluator in (validator, self.tester)]
        self.trainer = fake_trainer(len(sizes), [*evaluations, self.report], self._step, [0, 1])

    def _evaluator(self, name: str, count: int, handlers: Any = ()) -> Evaluator:
        def step(engine: Engine, batch: Any) -> list[dict[str, Any]]:
            engine.state.batch = [{"case": name}]
            return [{"pred": patch(int(self.network.weight)), "label": patch(count)}]

        evaluator = fake_evaluator([0], step)
        CaseDice(["liver"], 2).attach(evaluator, f"{name}_mean_dice")
        for handler in handlers:
            handler.attach(evaluator)
        return evaluator

    def _step(self, engine: Engine, batch: int) -> list[dict[str, Any]]:
        nn.init.constant_(self.network.weight, self.sizes[engine.state.epoch - 1])
        return [{"loss": torch.tensor(float(engine.state.epoch + batch))}]  # mean of an epoch: epoch + 0.5

    def run(self) -> dict[str, Any]:
        self.trainer.run()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "eval" / "summary.json").read_text())

    def metrics(self) -> list[dict[str, str]]:
        with open(self.folder / "eval" / "metrics.csv", newline="") as file:
            return list(csv.DictReader(file))


def test_both_models_on_the_test_set_by_hand(tmp_path: Path) -> None:
    # sizes 3, 5, 8. Validation (5 voxels): 6/8, 1, 10/13: B-model after epoch 2.
    # Test (6 voxels): 2 * 3 / 9 = 2/3, 2 * 5 / 11 = 10/11, 2 * 6 / 14 = 6/7
    run = Run(tmp_path, [3, 5, 8])
    dice = run.run()["test_dice"]
    assert dice["b_model"] == {
        "epoch": 2,
        "dice": {"mean": pytest.approx(10 / 11), "liver": pytest.approx(10 / 11)},
    }
    assert dice["l_model"] == {
        "epoch": 3,
        "dice": {"mean": pytest.approx(6 / 7), "liver": pytest.approx(6 / 7)},
    }
    assert dice["last_10_mean"] == pytest.approx((2 / 3 + 10 / 11 + 6 / 7) / 3)
    assert run.network.weight.item() == 8.0, "the network must end as the L-model"


def test_only_the_last_ten_evaluated_epochs_are_averaged(tmp_path: Path) -> None:
    # twelve epochs: the first two, of Dice 2/7, do not count; the other ten have 1
    assert Run(tmp_path, [1, 1, *[6] * 10]).run()["test_dice"]["last_10_mean"] == 1.0


def test_epochs_of_other_networks_are_not_averaged(tmp_path: Path) -> None:
    # sizes 3, 5, 8: test Dice 2/3, 10/11, 6/7, of which the run is about the last two
    run = Run(tmp_path, [3, 5, 8])
    run.history.first_epoch = 2
    assert run.run()["test_dice"]["last_10_mean"] == pytest.approx((10 / 11 + 6 / 7) / 2)


def test_rows_of_the_epochs(tmp_path: Path) -> None:
    run = Run(tmp_path, [3, 5, 8, 6], interval=2)
    run.run()
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["train_loss"]) for row in rows] == [1.5, 2.5, 3.5, 4.5]
    # validated and tested every other epoch: a number must not be repeated in the epochs between
    assert [row["val_mean_dice"] for row in rows] == ["", "1.0", "", str(10 / 11)]
    assert [row["test_mean_dice"] for row in rows] == ["", str(10 / 11), "", "1.0"]
    assert set(rows[0]) == {
        "epoch",
        "train_loss",
        *(f"{k}_mean_dice{c}" for k in ("val", "test") for c in ("", "_liver")),
    }


def test_what_a_method_publishes_stands_in_its_epoch_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, [3, 5, 8])

    def cleanse(engine: Engine) -> None:
        if engine.state.epoch == 2:
            engine.state.metrics.update(labels_relabel=4, something_else=1.0)

    run.trainer.add_event_handler("ITERATION_STARTED", cleanse)
    assert run.run()["published"] == {"something_else": 1.0}
    assert [row["labels_relabel"] for row in run.metrics()] == ["", "4.0", ""]
    assert [row["something_else"] for row in run.metrics()] == ["", "1.0", ""]


def test_metrics_are_written_after_every_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path, [3, 5, 8])

    def stop(engine: Engine) -> None:
        if engine.state.epoch == 3:
            raise RuntimeError("stopped by the test")

    run.trainer.add_event_handler("EPOCH_STARTED", stop)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        run.run()
    assert [row["epoch"] for row in run.metrics()] == ["1", "2"]
    assert not (tmp_path / "eval" / "summary.json").exists()


def test_a_resumed_run_appends_to_its_rows(tmp_path: Path) -> None:
    first, whole = Run(tmp_path / "parts", [3, 5]), Run(tmp_path / "whole", [3, 5, 8])
    first.run()
    resumed = Run(tmp_path / "parts", [3, 5, 8])
    resumed.history.load_state_dict(first.history.state_dict())
    resumed.trainer.state.epoch, resumed.trainer.state.iteration = 2, 4
    summary, expected = resumed.run(), whole.run()
    assert resumed.metrics() == whole.metrics()
    assert summary["test_dice"] == expected["test_dice"]


def test_seconds_of_all_epochs_are_added_also_over_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # a clock that goes on by a second whenever it is looked at: at both ends of an epoch
    monkeypatch.setattr(run_report, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    first, resumed = Run(tmp_path, [3, 5]), Run(tmp_path, [3, 5, 8])
    assert first.run()["seconds"] == 2.0
    resumed.history.load_state_dict(first.history.state_dict())
    resumed.trainer.state.epoch, resumed.trainer.state.iteration = 2, 4
    assert resumed.run()["seconds"] == 3.0


def test_without_a_defined_validation_there_is_no_b_model(tmp_path: Path) -> None:
    dice = Run(tmp_path, [3, 5], interval=5).run()["test_dice"]
    assert set(dice) == {"l_model", "last_10_mean"}
    assert dice["l_model"]["dice"]["mean"] == pytest.approx(10 / 11)
    assert dice["last_10_mean"] is None


def test_labels_with_known_truth_by_hand(tmp_path: Path) -> None:
    summary = Run(tmp_path, [5], truth_known=True).run()
    assert summary["training_labels"] == {
        "cases": 2,
        "given_to_clean": {"mean": pytest.approx(0.7), "liver": pytest.approx(0.7)},
        "cleansed_to_clean": {"mean": 1.0, "liver": 1.0},
        "cleansed_to_given": {"mean": pytest.approx(0.7), "liver": pytest.approx(0.7)},
        "changed_cases": 1,
    }
    assert (tmp_path / "eval" / "labels.csv").read_text().splitlines() == [
        "rank,case,dice_to_given,dice_to_given_liver",
        "1,a,0.4000,0.4000",
        "2,b,1.0000,1.0000",
    ]


def test_labels_of_unknown_truth(tmp_path: Path) -> None:
    summary = Run(tmp_path, [5]).run()
    assert set(summary["training_labels"]) == {"cases", "cleansed_to_given", "changed_cases"}


def test_a_run_that_changes_no_labels_ranks_none(tmp_path: Path) -> None:
    summary = Run(tmp_path, [5], items=[_item("a", 1, truth=4)], truth_known=True).run()
    assert summary["training_labels"]["given_to_clean"]["mean"] == pytest.approx(0.4)
    assert not (tmp_path / "eval" / "labels.csv").exists()
    assert summary["rounds"] == []


def test_rounds_settings_and_length_are_in_the_summary(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels")
    for epoch in (3, 5):
        store.propose("a", patch(epoch).numpy())
        store.commit("cleansing", parameters={"epoch": epoch, "decisions": {"relabel": 1}})
    summary = Run(tmp_path, [5, 5], store=store, settings={"method": "self_cleansing", "size": (8, 8)}).run()
    assert summary["rounds"] == [
        {"round": 1, "epoch": 3, "decisions": {"relabel": 1}},
        {"round": 2, "epoch": 5, "decisions": {"relabel": 1}},
    ]
    assert summary["settings"] == {"method": "self_cleansing", "size": [8, 8]}
    assert (summary["epochs"], summary["classes"], summary["threads"]) == (
        2,
        ["liver"],
        torch.get_num_threads(),
    )
    assert 0 <= summary["seconds"] < 600


def test_the_run_ends_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path, [3, 5, 8], truth_known=True).run()
    printed = capsys.readouterr().out
    assert re.search(r"B-model \(best on validation\), epoch 2 +│ +0\.909", printed)
    assert re.search(r"L-model \(last\), epoch 3 +│ +0\.857", printed)
    assert f"{tmp_path / 'eval'}/summary.json" in printed


def test_the_picture_is_drawn_of_the_training_set_as_it_is(tmp_path: Path, drawn: list[Any]) -> None:
    run = Run(tmp_path, [3, 5], truth_known=True)
    run.run()
    history, items, quality, path, num_classes, truth_known = drawn[0]
    assert history is run.history
    assert [int(items[i]["label"].sum()) for i in range(len(items))] == [1, 4], "augmentation empties the labels"
    assert list(quality.cleansed_to_given) == ["a", "b"]
    assert (path, num_classes, truth_known) == (tmp_path / "eval" / "report.png", 2, True)


def test_the_training_set_is_read_without_augmentation_and_stays_cached(tmp_path: Path) -> None:
    steps = Compose([RandLambdad("label", lambda label: 0 * label)])
    dataset = CacheDataset(CLEANSED, steps, progress=False)
    summary = Run(tmp_path, [5], dataset=dataset, truth_known=True).run()
    assert summary["training_labels"]["given_to_clean"]["mean"] == pytest.approx(0.7)
    np.testing.assert_array_equal(np.unique(dataset[1]["label"]), [0])


def test_what_is_undefined_stays_readable(tmp_path: Path) -> None:
    # nothing predicted, nothing to find in the training labels: null, for JSON has no NaN
    summary = Run(tmp_path, [0], items=[_item("a", 0, 0)]).run()
    assert summary["test_dice"]["l_model"]["dice"]["mean"] == 0.0
    assert summary["training_labels"]["cleansed_to_given"]["mean"] is None
    assert summary["training_labels"]["changed_cases"] == 0


def test_other_ranks_evaluate_but_do_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "is_main", lambda: False)
    run = Run(tmp_path, [3, 5])
    run.trainer.run()
    assert not (tmp_path / "eval").exists()
    assert run.tester.state.epoch == 2
    assert run.history.rows[1]["test_mean_dice"] == pytest.approx(10 / 11)


class FixedWeights(CaseWeights):
    """Weights of the cases a and b that are those of each epoch."""

    def __init__(self, of_epoch: list[list[float]]) -> None:
        super().__init__(SimpleNamespace(weights=torch.empty(0)))
        self.of_epoch = of_epoch

    def means(self) -> dict[str, float]:
        return dict(zip("ab", self.of_epoch.pop(0), strict=True))


def test_weights_of_cases_are_ranked_after_every_epoch(tmp_path: Path, drawn: list[Any]) -> None:
    """The label of a is wrong and that of b is right; in the end a weighs less."""
    weights = FixedWeights([[2.0, 0.25], [0.5, 1.5], [0.5, 1.5]])
    items = [_item("a", 1, truth=4), _item("b", 4, truth=4)]
    run = Run(tmp_path, [5, 5], items=items, truth_known=True, weights=weights)
    written = []
    ranking = tmp_path / "eval" / "labels.csv"
    run.trainer.add_event_handler("EPOCH_COMPLETED", lambda: written.append(ranking.read_text().splitlines()[1:]))
    found = run.run()["training_labels"]["weight_finds_wrong"]
    assert written == [["1,b,0.2500", "2,a,2.0000"], ["1,a,0.5000", "2,b,1.5000"]]
    assert (found["auroc"], found["mean_weight_of_wrong"], found["mean_weight_of_right"]) == (1.0, 0.5, 1.5)
    assert drawn[0][2].weights == {"a": 0.5, "b": 1.5}
