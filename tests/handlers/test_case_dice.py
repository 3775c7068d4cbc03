"""Dice per case by hand: slices pooled, absent classes left out, padded duplicates counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from handler_fakes import fake_evaluator, measure_cases, strip
from ignite.engine import Engine
from monai.engines import Evaluator
from two_processes import run_on_two

from monai_noisylabel.handlers import CaseDice, case_dice, write_case_table


def _item(case: str, pred: torch.Tensor, label: torch.Tensor, **more: Any) -> dict[str, Any]:
    return {"case": case, "pred": pred, "label": label, **more}


def _evaluator(
    batches: Sequence[Sequence[dict[str, Any]]], classes: Sequence[str], num_classes: int | None
) -> tuple[CaseDice, Evaluator]:
    metric = CaseDice(classes, num_classes)
    evaluator = fake_evaluator(batches, lambda engine, batch: batch)
    metric.attach(evaluator, "val_mean_dice")
    return metric, evaluator


def test_means_over_cases_and_classes_by_hand() -> None:
    # class 1 (voxels 0-1), class 2 (voxels 2-3). Case a: prediction 1 1 2 0, label 1 1 2 2:
    #   class 1: 2*2/4 = 1, class 2: 2*1/(1+2) = 2/3. Case b: prediction 1 0 0 0, label 1 1 0 0:
    #   class 1: 2*1/(1+2) = 2/3; class 2 is in neither map and does not count.
    # Class 1: (1 + 2/3) / 2 = 5/6; class 2: 2/3 from case a alone; mean (5/6 + 2/3) / 2 = 3/4
    a = _item("a", torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1, 1, 2, 2]]))
    b = _item("b", torch.tensor([[1, 0, 0, 0]]), torch.tensor([[1, 1, 0, 0]]))
    metric, evaluator = _evaluator([[a, b]], ["liver", "tumour"], num_classes=3)
    evaluator.run()
    assert evaluator.state.metrics == {
        "val_mean_dice": pytest.approx(3 / 4),
        "val_mean_dice_liver": pytest.approx(5 / 6),
        "val_mean_dice_tumour": pytest.approx(2 / 3),
    }
    assert list(metric.per_case()) == ["a", "b"]
    assert math.isnan(metric.per_case()["b"][1])


def test_slices_of_a_volume_are_pooled() -> None:
    # slice 0: prediction 4, label 2 voxels, 2 in common; slice 1: both empty; slice 2: prediction 0, label 2.
    # Pooled: 2 * 2 / (4 + 4) = 1/2. The mean over slices would be (2/3 + 0) / 2 = 1/3, or 5/9 with the
    # empty one as 1. The other volume is predicted perfectly: (1/2 + 1) / 2.
    slices = [(4, 2), (0, 0), (0, 2)]
    batches = [[_item(f"v/{i:03d}", strip(pred), strip(given), volume="v")] for i, (pred, given) in enumerate(slices)]
    batches.insert(1, [_item("w/000", strip(3), strip(3), volume="w")])
    metric, evaluator = _evaluator(batches, ["liver"], num_classes=2)
    evaluator.run()
    assert {case: value.tolist() for case, value in metric.per_case().items()} == {"v": [0.5], "w": [1.0]}
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(0.75)


def test_multi_label_channels_are_the_classes() -> None:
    # channel 1: 2 * 1 / (2 + 1) = 2/3, channel 2: disjoint, 0
    item = _item("a", torch.tensor([[[1, 1, 0]], [[1, 0, 0]]]), torch.tensor([[[1, 0, 0]], [[0, 1, 1]]]))
    _, evaluator = _evaluator([[item]], ["lung", "heart"], num_classes=None)
    evaluator.run()
    assert evaluator.state.metrics["val_mean_dice_lung"] == pytest.approx(2 / 3)
    assert evaluator.state.metrics["val_mean_dice_heart"] == 0.0
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(1 / 3)


def test_a_case_seen_twice_counts_once() -> None:
    # Dice 1 and 1/3: mean 2/3; with the first case twice it would be 7/9
    items = [_item("a", strip(4), strip(4)), _item("b", strip(1), strip(5)), _item("a", strip(4), strip(4))]
    _, evaluator = _evaluator([items[:2], items[2:]], ["liver"], num_classes=2)
    evaluator.run()
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(2 / 3)


def test_a_padded_slice_is_not_counted_twice_within_its_volume() -> None:
    # slices: 2 of 2 + 2 right, 0 of 0 + 4: 2 * 2 / (2 + 6) = 1/2; the first slice twice would give 2 * 4
    # / 12 = 2/3
    first, second = (
        _item("v/0", strip(2), strip(2), volume="v"),
        _item("v/1", strip(0), strip(4), volume="v"),
    )
    _, evaluator = _evaluator([[first, second], [first]], ["liver"], num_classes=2)
    evaluator.run()
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(0.5)


def test_every_evaluation_starts_anew() -> None:
    answers = iter([("a", strip(4)), ("b", strip(1))])
    metric = CaseDice(["liver"], num_classes=2)

    def step(engine: Engine, batch: Any) -> list[dict[str, Any]]:
        case, prediction = next(answers)
        engine.state.batch = [{"case": case}]
        return [{"pred": prediction, "label": strip(4)}]

    evaluator = fake_evaluator([0], step)
    metric.attach(evaluator, "dice")
    found = []
    for epoch in (1, 2):
        evaluator.run(global_epoch=epoch)
        found.append(evaluator.state.metrics["dice"])
    assert found == [1.0, pytest.approx(2 / 5)]
    metric.reset()
    assert metric.per_case() == {}


def test_a_class_that_no_case_shows_has_no_mean() -> None:
    _, evaluator = _evaluator([[_item("a", strip(2), strip(2))]], ["liver", "tumour"], num_classes=3)
    evaluator.run()
    assert evaluator.state.metrics["val_mean_dice"] == 1.0
    assert math.isnan(evaluator.state.metrics["val_mean_dice_tumour"])


def test_nothing_to_find_and_nothing_found_is_undefined() -> None:
    _, evaluator = _evaluator([[_item("a", strip(0), strip(0))]], ["liver"], num_classes=2)
    evaluator.run()
    assert math.isnan(evaluator.state.metrics["val_mean_dice"])


def test_it_is_a_key_metric_of_monai() -> None:
    metric = CaseDice(["liver"], num_classes=2)
    evaluator = Evaluator(
        device="cpu",
        val_data_loader=[[_item("a", strip(1), strip(3))]],
        iteration_update=lambda engine, batch: batch,
        decollate=False,
        key_val_metric={"dice": metric},
    )
    evaluator.run()
    assert evaluator.state.best_metric == 0.5


def test_an_item_without_a_name_is_refused() -> None:
    _, evaluator = _evaluator([[{"pred": strip(1), "label": strip(1)}]], ["liver"], num_classes=2)
    with pytest.raises(KeyError, match="case"):
        evaluator.run()


def test_outputs_that_do_not_fit_the_batch_are_refused() -> None:
    metric = CaseDice(["liver"], num_classes=2)
    evaluator = fake_evaluator([[_item("a", strip(1), strip(1))] * 2], lambda engine, batch: batch[:1])
    metric.attach(evaluator, "dice")
    with pytest.raises(ValueError, match="shorter"):
        evaluator.run()


def _two_class_table() -> CaseDice:
    # good: 1 and absent, mean 1; bad, x: 2/3 and 0, mean 1/3; fair: 1 and 2/3, mean 5/6; empty: no class
    # at all
    cases = {
        "good": ([1, 1, 0, 0], [1, 1, 0, 0]),
        "bad, x": ([1, 1, 0, 0], [1, 0, 2, 0]),
        "fair": ([1, 2, 0, 0], [1, 2, 2, 0]),
        "empty": ([0, 0, 0, 0], [0, 0, 0, 0]),
    }
    items = [_item(case, torch.tensor([pred]), torch.tensor([given])) for case, (pred, given) in cases.items()]
    metric, evaluator = _evaluator([items], ["liver", "tumour"], num_classes=3)
    evaluator.run()
    return metric


def test_case_table_lists_the_worst_case_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case_table(_two_class_table(), tmp_path / "eval" / "dice.csv")
    assert (tmp_path / "eval" / "dice.csv").read_text().splitlines() == [
        "case,mean,liver,tumour",
        '"bad, x",0.3333,0.6667,0.0000',
        "fair,0.8333,1.0000,0.6667",
        "empty,nan,nan,nan",
        "good,1.0000,1.0000,nan",
    ]
    # liver (1 + 2/3 + 1) / 3 = 8/9, tumour (0 + 2/3) / 2 = 1/3
    printed = capsys.readouterr().out
    assert printed.startswith("Dice over 4 cases: liver 0.8889, tumour 0.3333. Per case: ")
    assert str(tmp_path / "eval" / "dice.csv") in printed


def test_other_ranks_write_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_dice, "is_main", lambda: False)
    write_case_table(_two_class_table(), tmp_path / "dice.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.distributed
def test_two_processes_agree_with_one() -> None:
    # the slices of v lie on both ranks, and the second rank is padded with the first sample of the first one
    samples = [("v/0", "v", 4, 2), ("w", "w", 3, 3), ("v/1", "v", 0, 2), ("x", "x", 1, 4), ("v/2", "v", 5, 5)]
    shares = [samples[0::2], [*samples[1::2], samples[0]]]
    one = measure_cases(0, [samples])
    # v: 2 (2 + 0 + 5) / (9 + 9) = 7/9, w: 1, x: 2/5
    assert one["dice"] == pytest.approx((7 / 9 + 1 + 2 / 5) / 3)
    assert run_on_two(measure_cases, shares) == [one, one]
