"""A sweep that finds wrong voxels: by hand, with several problems, with structures that are kept, and its record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from handler_fakes import fake_evaluator, fake_trainer
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_noisylabel.data import LabelStore
from monai_noisylabel.estimation import softmin_quality
from monai_noisylabel.handlers import BestTeachers, ConfidentLearning, ConfidentRelabel
from monai_noisylabel.handlers.out_of_sample import OutOfSample
from monai_noisylabel.selection import PruningRule, confident_limits, label_errors

P = torch.tensor([[0.9, 0.8, 0.1, 0.6], [0.8, 0.9, 0.3, 0.2]])
"""Probability of the background in two cases of two classes, in a row of four voxels each."""
GIVEN = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]])
CLEAN = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
# t_0 = (0.9 + 0.8 + 0.1 + 0.6 + 0.8) / 5 = 0.64, t_1 = (0.1 + 0.7 + 0.8) / 3 = 0.533
# given 0: counted as 0 are 0.9, 0.8, 0.8; as 1 is 0.1; 0.6 reaches neither: C = [3, 1], C' = 5/4 [3, 1] -> [4, 1]
# given 1: counted as 0 is 0.9, as 1 are 0.3, 0.2: C = C' = [1, 2]. Wrong: the one of lowest p in either class.
FOUND = torch.tensor([[False, False, True, False], [False, True, False, False]])


def two_classes(p: Tensor) -> Tensor:
    return torch.stack([p, 1 - p]).log().unsqueeze(1)


def items(channels: int = 1) -> list[dict[str, Any]]:
    """Cases a and b; with several channels each structure is labelled and predicted alike."""
    binary = [((1 - p) / p).log().expand(channels, 1, 4) for p in P]
    logits = [two_classes(p) for p in P] if channels == 1 else binary
    return [
        {
            "case": name,
            "label": MetaTensor(given.expand(channels, 1, 4).clone()),
            "clean_label": clean.expand(channels, 1, 4),
            "pred": part,
        }
        for name, given, clean, part in zip("ab", GIVEN, CLEAN, logits, strict=True)
    ]


def swept(relabel: ConfidentRelabel, found: list[dict[str, Any]]) -> Any:
    def answer(engine: Engine, batch: Any) -> list[dict[str, Any]]:
        engine.state.batch = batch
        return [{"pred": item["pred"]} for item in batch]

    return fake_evaluator([[item] for item in found], answer, [relabel])


def test_a_round_by_hand(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "store")
    relabel = ConfidentRelabel(store, tmp_path / "files", 2, 1, truth_key="clean_label")
    swept(relabel, items()).run()
    store.commit("found")
    for name, given, wrong, p in zip("ab", GIVEN, FOUND, P, strict=True):
        label = store.read(name)
        assert label is not None
        assert label.tolist() == [[torch.where(wrong, 1 - given, given).tolist()]]
        entry = store.history(name)[0]
        assert entry["facts"]["voxels_found_wrong"] == 1
        assert entry["facts"]["label_quality"] == pytest.approx(softmin_quality(torch.stack([p, 1 - p]), given))
        assert store.read_stored(name).header["geometry"]["shape"] == [1, 4]  # type: ignore[union-attr]
    assert relabel.limits[0].joint.tolist() == [[4, 1], [1, 2]]
    # given 0: five voxels, found 1 (rightly), truly wrong 2. Given 1: three, found 1 (rightly), truly wrong 1
    assert relabel.voxels.tolist() == [[5, 1, 1, 2], [3, 1, 1, 1]]
    assert [(change.case, change.changed) for change in relabel.changes] == [("a", 1), ("b", 1)]
    # case a: given nothing, clean 2 voxels, now 1 of them. Case b: 2 * 2 / (3 + 2), then right
    before, after = ([float(getattr(change, name)) for change in relabel.changes] for name in ("before", "after"))
    assert before == pytest.approx([0.0, 0.8])
    assert after == pytest.approx([2 / 3, 1.0])
    assert not (tmp_path / "files").exists()


def test_structures_that_overlap_are_judged_one_by_one(tmp_path: Path) -> None:
    found = items(2)
    found[0]["label"][1], found[0]["pred"] = 1, found[0]["pred"].clone()
    found[0]["pred"][1] = 5.0  # the second structure of case a: all of it given, and predicted
    store = LabelStore(tmp_path / "store")
    relabel = ConfidentRelabel(store, tmp_path / "files", None, 2, truth_key="clean_label")
    swept(relabel, found).run()
    store.commit("found")
    label = store.read("a")
    assert label is not None
    assert label[0, 0].tolist() == [0, 0, 1, 0]
    assert label[1, 0].tolist() == [1, 1, 1, 1]
    assert relabel.voxels[:2].tolist() == [[5, 1, 1, 2], [3, 1, 1, 1]]
    assert relabel.voxels[2:, 0].tolist() == [1, 7]


def test_structures_that_are_kept(tmp_path: Path) -> None:
    """Three classes, of which 2 is kept: neither do its voxels change, nor do others become it."""
    p = torch.tensor([[[0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.8, 0.8, 0.8, 0.8, 0.1, 0.1]]])
    p = torch.cat([p, 1 - p.sum(1, keepdim=True)], 1)[0].unsqueeze(1)
    given = torch.tensor([[[0, 0, 1, 1, 0, 2, 2, 0]]])  # wrong: 0 for 1, 2 for 1, 0 for 2
    for kept, expected in (((), [0, 0, 1, 1, 1, 1, 2, 2]), ((2,), [0, 0, 1, 1, 1, 2, 2, 0])):
        store = LabelStore(tmp_path / f"store{len(kept)}")
        relabel = ConfidentRelabel(store, tmp_path / "files", 3, 2, rule="off_diagonal")
        relabel.kept = frozenset(kept)
        swept(relabel, [{"case": "a", "label": given, "pred": p.log()}]).run()
        store.commit("found")
        label = store.read("a")
        assert label is not None
        assert label[0, 0].tolist() == expected
    multi = ConfidentRelabel(LabelStore(tmp_path / "multi"), tmp_path / "files", None, 2)
    multi.kept = frozenset({1})
    swept(multi, items(2)).run()
    assert multi.voxels[:, 2].tolist() == [0, 0, 1, 1]
    assert multi.changes[0].before is None


@pytest.mark.parametrize("num_classes", [3, None])
def test_predictions_on_disk_are_those_that_were_made(num_classes: int | None, tmp_path: Path) -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    given = torch.tensor([[0, 1, 2, 1, 0]] * 4)[None] if num_classes else (logits > 0.5).long()
    predictions = OutOfSample(tmp_path, num_classes)
    predictions.add("a/1", logits, given)
    predictions.add("b", -logits, given, truth=given)
    for number in range(1 if num_classes else 3):
        problem = predictions.problem(number)
        for found in (list(problem), list(problem)):
            for sign, (p, label) in zip((1, -1), found, strict=True):
                z = sign * logits
                expected = z.softmax(0) if num_classes else torch.stack([1 - z[number].sigmoid(), z[number].sigmoid()])
                torch.testing.assert_close(p, expected)
                assert torch.equal(label.long(), given[0 if num_classes else number])
    assert predictions.read("a/1", 0).truth is None
    assert predictions.read("b", 0).truth is not None


def learning(tmp_path: Path, truth_key: str | None = "clean_label", **settings: Any) -> tuple[ConfidentLearning, Any]:
    store = LabelStore(tmp_path / "store")
    relabel = ConfidentRelabel(store, tmp_path / "files", 2, 1, truth_key=truth_key)
    teachers = nn.Linear(1, 1, bias=False)
    best = BestTeachers(fake_evaluator([0], lambda engine, batch: None), teachers, 2)
    best.load_state_dict({"epoch": 1, "value": 0.5, "weights": {"weight": torch.tensor([[7.0]])}})
    sweep = swept(relabel, items())
    handler = ConfidentLearning(sweep, relabel, ["lung"], after_epoch=2, best=best, **settings)
    return handler, teachers


def test_the_round_and_what_is_published(tmp_path: Path) -> None:
    handler, teachers = learning(tmp_path)
    metrics: list[Mapping[str, float]] = []
    trainer = fake_trainer(3, [handler])
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: metrics.append(dict(engine.state.metrics)))
    trainer.run()
    assert teachers.weight.item() == 7.0
    assert metrics[0] == {}
    assert metrics[1] == pytest.approx(
        {
            "labels_relabel": 2,
            "given_to_true/background to background": 4 / 5,
            "given_to_true/background to lung": 1 / 5,
            "given_to_true/lung to background": 1 / 3,
            "given_to_true/lung to lung": 2 / 3,
            "found_wrong/background": 1 / 5,
            "found_wrong/lung": 1 / 3,
        }
    )
    store = handler.relabel.store
    assert store.round == 1
    record = store.record(1)["parameters"]
    assert (record["epoch"], record["teachers_of_epoch"], record["rule"]) == (2, 1, "both")
    assert (record["samples"], record["relabelled"], record["voxels_found_wrong"]) == (2, 2, 2)
    assert record["joint"] == {"background": {"background": 4, "lung": 1}, "lung": {"background": 1, "lung": 2}}
    assert record["thresholds"] == pytest.approx({"background": 0.64, "lung": 1.6 / 3}, abs=1e-6)
    assert record["found_wrong"]["background"] == {
        "voxels": 5,
        "found_wrong": 1,
        "truly_wrong": 2,
        "found_and_truly_wrong": 1,
        "precision": 1.0,
        "recall": 0.5,
    }
    assert record["found_wrong_overall"]["recall"] == pytest.approx(2 / 3)
    assert record["dice_to_clean"]["after"]["lung"] == pytest.approx(5 / 6)


def test_without_truth_nothing_is_said_of_it(tmp_path: Path) -> None:
    handler, teachers = learning(tmp_path, truth_key=None, weights="last")
    nn.init.constant_(teachers.weight, 3.0)
    fake_trainer(3, [handler]).run()
    assert teachers.weight.item() == 3.0
    record = handler.relabel.store.record(1)["parameters"]
    assert record["teachers_of_epoch"] == 2
    assert record["found_wrong"]["lung"] == {"voxels": 3, "found_wrong": 1}
    assert not {"dice_to_clean", "found_wrong_overall"} & set(record)
    assert math.isfinite(json.loads(json.dumps(record))["thresholds"]["lung"])


def test_a_student_needs_its_turn(tmp_path: Path) -> None:
    handler, _ = learning(tmp_path)
    with pytest.raises(ValueError, match="learn for 2 epochs, and the training has 2: none is left"):
        fake_trainer(2, [handler]).run()
    with pytest.raises(ValueError, match="weights must be 'best' or 'last', got 'first'"):
        learning(tmp_path, weights="first")


def test_the_sweep_agrees_with_the_functions_on_many_voxels(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4, 3, 30, 20, generator=generator)
    given = torch.randint(0, 3, (4, 30, 20), generator=generator)
    cases = [(z.softmax(0), label) for z, label in zip(logits, given, strict=True)]
    for rule in get_args(PruningRule):
        store = LabelStore(tmp_path / rule)
        relabel = ConfidentRelabel(store, tmp_path / "files", 3, 2, rule=rule)
        swept(relabel, [{"case": str(n), "label": given[n][None], "pred": logits[n]} for n in range(4)]).run()
        store.commit("found")
        limits = confident_limits(cases, rule)
        for n, (p, label) in enumerate(cases):
            stored = store.read(str(n))
            assert stored is not None
            expected = torch.where(label_errors(p, label, limits), p.argmax(0), label)
            assert stored[0].tolist() == expected.tolist()
