"""Rounds of label cleansing on a sweep whose predictions and proposals are made by hand."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handler_fakes import CLEANSED_GIVEN, CLEANSED_PROPOSED, FakeSweep, cleanse, fake_trainer, strip
from monai.data import MetaTensor
from torch import Tensor
from two_processes import run_on_two

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import LabelCleansing
from monai_noisylabel.handlers.sweep_record import SampleRecord, gather_records

CASES = list(CLEANSED_GIVEN)
TWO_COMPONENTS = "two components; 1 sample without a loss counted as noisy"


class Training:
    """A trainer without a network, its label cleansing, and the labels that it leaves behind."""

    def __init__(self, folder: Path, given: Mapping[str, Tensor], **settings: Any) -> None:
        self.store = LabelStore(folder / "labels")
        self.sweep = FakeSweep(given, self.store.read, cases=settings.pop("cases", None))
        settings = {"warm_up": 1, "interval": 1, "num_classes": 2, **settings}
        self.cleansing = LabelCleansing(self.sweep.evaluator, self.store, **settings)
        self.epoch = 0

    def round(self, predicted: Mapping[str, int], proposed: Mapping[str, int]) -> dict[str, int]:
        """One more epoch with a round at its end; its counts by verdict."""
        self.sweep.predicted = {case: strip(count) for case, count in predicted.items()}
        self.sweep.proposed = {case: strip(count) for case, count in proposed.items()}
        trainer = fake_trainer(self.epoch + 2)
        self.cleansing.attach(trainer)
        trainer.state.epoch, trainer.state.iteration = self.epoch, 2 * self.epoch
        trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: engine.terminate())
        trainer.run()
        self.epoch += 1
        return {name.removeprefix("labels_"): value for name, value in trainer.state.metrics.items()}

    def stored(self) -> dict[str, int]:
        """Foreground voxels of every corrected label."""
        labels = {case: self.store.read(case) for case in self.sweep.given}
        return {case: int(label.sum()) for case, label in labels.items() if label is not None}


@pytest.fixture
def given() -> dict[str, Tensor]:
    return {case: strip(count) for case, count in CLEANSED_GIVEN.items()}


def _all(count: int) -> dict[str, int]:
    return dict.fromkeys(CASES, count)


def test_first_round_by_hand(tmp_path: Path, given: dict[str, Tensor]) -> None:
    # The prediction is 5 voxels everywhere; given are 5 5 5 1 1 0. Losses 1 - 2 min / sum: 0 0 0 2/3 2/3, and
    # f, which is empty, is noisy anyway. The mixture's means are 0 and 2/3: a, b, c are clean. There is no
    # correction yet that could be clean. Of d, e and f, e has an empty proposal and stays as it is.
    training = Training(tmp_path, given)
    assert training.round(_all(5), CLEANSED_PROPOSED) == {"keep_manual": 3, "keep_pseudo": 1, "relabel": 2}
    assert training.stored() == {"d": 5, "f": 6}
    assert training.store.round == 1
    assert training.store.staged() == []
    record = training.store.record(1)
    assert record["why"] == "cleansing after epoch 1"
    assert record["method"] == "self_cleansing"
    assert set(record["cases"]) == {"d", "f"}
    # from 1 voxel to 5, and from none to 6
    assert record["cases"]["d"]["voxels_changed"] == {"1": {"added": 4, "removed": 0}}
    assert record["cases"]["f"]["voxels_changed"] == {"1": {"added": 6, "removed": 0}}
    parameters = record["parameters"]
    assert parameters["decisions"] == {"keep_manual": 3, "keep_pseudo": 1, "relabel": 2}
    assert (parameters["epoch"], parameters["samples"], parameters["empty_proposals"]) == (1, 6, 1)
    assert parameters["given_labels"]["means"] == pytest.approx([0.0, 2 / 3], abs=0.02)
    assert parameters["given_labels"]["reason"] == TWO_COMPONENTS
    assert parameters["corrections"]["means"] == []
    assert (parameters["renew"], parameters["components"], parameters["min_gap"]) == ("noisy", 2, 0.0)


def test_second_round_keeps_clean_corrections_and_renews_noisy_ones(tmp_path: Path, given: dict[str, Tensor]) -> None:
    # Corrections: d with 5 voxels, f with 6. Predicted are 5 for all but f: 1. Given losses: 0 0 0 2/3 2/3 as
    # before. Losses of the corrections: d 0, f 1 - 2 * 1 / 7 = 5/7: d is clean, f is not.
    training = Training(tmp_path, given)
    training.round(_all(5), CLEANSED_PROPOSED)
    counts = training.round(_all(5) | {"f": 1}, _all(7) | {"e": 0})
    assert counts == {"keep_manual": 3, "keep_pseudo": 2, "relabel": 1}
    assert training.stored() == {"d": 5, "f": 7}
    assert set(training.store.record(2)["cases"]) == {"f"}
    assert training.store.record(2)["parameters"]["corrections"]["means"] == pytest.approx([0.0, 5 / 7], abs=0.02)
    assert [entry["round"] for entry in training.store.history("f")] == [1, 2]


def test_always_renews_also_the_clean_corrections(tmp_path: Path, given: dict[str, Tensor]) -> None:
    training = Training(tmp_path, given, renew="always")
    training.round(_all(5), CLEANSED_PROPOSED)
    counts = training.round(_all(5) | {"f": 1}, _all(7) | {"e": 0})
    # d is renewed too; e has nothing to be renewed with
    assert counts == {"keep_manual": 3, "keep_pseudo": 1, "relabel": 2}
    assert training.stored() == {"d": 7, "f": 7}
    assert training.store.record(2)["parameters"]["renew"] == "always"


def test_an_empty_proposal_does_not_replace_a_noisy_correction(tmp_path: Path, given: dict[str, Tensor]) -> None:
    training = Training(tmp_path, given)
    training.round(_all(5), CLEANSED_PROPOSED)
    counts = training.round(_all(5) | {"f": 1}, _all(0))
    assert counts == {"keep_manual": 3, "keep_pseudo": 3, "relabel": 0}
    assert training.stored() == {"d": 5, "f": 6}
    assert training.store.record(2)["parameters"]["empty_proposals"] == 6


def test_a_given_label_that_is_clean_again_stands_again(tmp_path: Path, given: dict[str, Tensor]) -> None:
    # d is now predicted as it was given: loss 0, clean; its correction ends. f keeps the only one: one
    # sample, clean
    training = Training(tmp_path, given)
    training.round(_all(5), CLEANSED_PROPOSED)
    counts = training.round(_all(5) | {"d": 1}, _all(7) | {"e": 0})
    assert counts["keep_manual"] == 4
    assert training.store.read("d") is None
    assert "d" not in training.stored()
    assert training.store.record(2)["cases"]["d"]["withdrawn"] is True
    assert training.store.read("d", round=1) is not None, "rounds are immutable"
    # the next round finds d without a correction and leaves no trace of it
    training.round(_all(5) | {"d": 1}, _all(7) | {"e": 0})
    assert "d" not in training.store.record(3)["cases"]


def test_a_set_of_equal_losses_is_all_clean(tmp_path: Path, given: dict[str, Tensor]) -> None:
    training = Training(tmp_path, given)
    counts = training.round(CLEANSED_GIVEN, CLEANSED_PROPOSED)
    assert counts == {"keep_manual": 6, "keep_pseudo": 0, "relabel": 0}
    assert training.stored() == {}
    assert training.store.round == 1, "a round without changes is recorded too"
    assert training.store.record(1)["parameters"]["decisions"] == {"keep_manual": 6}


def test_two_empty_labels_agree(tmp_path: Path, given: dict[str, Tensor]) -> None:
    # f is given as empty and predicted empty: loss 0 and clean, like a, b, c
    training = Training(tmp_path, given)
    counts = training.round(_all(5) | {"f": 0}, CLEANSED_PROPOSED)
    assert counts["keep_manual"] == 4
    assert training.stored() == {"d": 5}


def test_one_sample_is_clean(tmp_path: Path) -> None:
    training = Training(tmp_path, {"a": strip(3)})
    assert training.round({"a": 1}, {"a": 5}) == {"keep_manual": 1, "keep_pseudo": 0, "relabel": 0}
    assert training.store.record(1)["parameters"]["given_labels"]["reason"] == "one sample: kept as clean"


def test_min_gap_keeps_labels_that_differ_little(tmp_path: Path, given: dict[str, Tensor]) -> None:
    # the means differ by 2/3, see above; f is empty and no matter of means
    assert Training(tmp_path / "a", given, min_gap=0.6).round(_all(5), CLEANSED_PROPOSED)["keep_manual"] == 3
    training = Training(tmp_path / "b", given, min_gap=0.75)
    counts = training.round(_all(5), CLEANSED_PROPOSED)
    assert counts == {"keep_manual": 5, "keep_pseudo": 0, "relabel": 1}
    assert training.store.record(1)["parameters"]["min_gap"] == 0.75


def test_missing_labels_do_not_make_wrong_boundaries_look_clean(tmp_path: Path) -> None:
    # predicted are 6 voxels; given 6 (loss 0), 4 (1 - 8/10 = 1/5) and none (loss 1), three times each. A mixture
    # of all losses would put its means at 1/10 and 1 and call six labels clean; without the missing ones it is three
    sizes = {f"{count}_{copy}": count for count in (6, 4, 0) for copy in range(3)}
    training = Training(tmp_path, {case: strip(count) for case, count in sizes.items()})
    counts = training.round(dict.fromkeys(sizes, 6), dict.fromkeys(sizes, 7))
    assert counts == {"keep_manual": 3, "keep_pseudo": 0, "relabel": 6}
    assert set(training.stored()) == {case for case, count in sizes.items() if count < 6}


def test_empty_labels_are_believed_where_next_to_nothing_is_predicted(tmp_path: Path) -> None:
    # predicted are 10 voxels in the labelled samples: from 0.2 * 10 = 2 on an empty label is noisy
    given = {"full_1": strip(10), "full_2": strip(10), "two": strip(0), "one": strip(0), "none": strip(0)}
    predicted = {"full_1": 10, "full_2": 10, "two": 2, "one": 1, "none": 0}
    training = Training(tmp_path, given, min_missing=0.2)
    counts = training.round(predicted, dict.fromkeys(given, 7))
    assert counts == {"keep_manual": 4, "keep_pseudo": 0, "relabel": 1}
    assert training.stored() == {"two": 7}
    assert training.store.record(1)["parameters"]["empty_given_labels"] == 3
    strict = Training(tmp_path / "strict", given, min_missing=0.0)
    assert strict.round(predicted, dict.fromkeys(given, 7))["relabel"] == 2
    assert set(strict.stored()) == {"two", "one"}


def test_three_components_are_stricter(tmp_path: Path) -> None:
    # given 10 voxels; predicted 10 (loss 0), 8 (1 - 16/18 = 1/9) and 1 (1 - 2/11 = 9/11), three times each:
    # of two components 0 and 1/9 share the lower one; of three they do not
    predicted = {f"{count}_{copy}": count for count in (10, 8, 1) for copy in range(3)}
    given = {case: strip(10) for case in predicted}
    kept = {}
    for components in (2, 3):
        training = Training(tmp_path / str(components), given, components=components)
        kept[components] = training.round(predicted, predicted)["keep_manual"]
    assert kept == {2: 6, 3: 3}


def test_a_case_swept_twice_counts_once(tmp_path: Path, given: dict[str, Tensor]) -> None:
    training = Training(tmp_path, given, cases=[*CASES, "a", "d"])
    assert training.round(_all(5), CLEANSED_PROPOSED) == {"keep_manual": 3, "keep_pseudo": 1, "relabel": 2}
    assert training.store.record(1)["parameters"]["samples"] == 6


def test_multi_label_channels(tmp_path: Path) -> None:
    # two channels; a is given as predicted (loss 0), in b the second one is missing: Dice (1 + 0) / 2,
    # loss 1/2
    full, half = torch.cat([strip(4), strip(6)]), torch.cat([strip(4), strip(0)])
    training = Training(tmp_path, {"a": full, "b": half}, num_classes=None)
    training.sweep.predicted = training.sweep.proposed = {"a": full, "b": full}
    trainer = fake_trainer(2, [training.cleansing])
    trainer.run()
    assert trainer.state.metrics["labels_relabel"] == 1
    np.testing.assert_array_equal(training.store.read("b"), full.numpy())
    changed = training.store.record(1)["cases"]["b"]["voxels_changed"]
    assert changed == {"1": {"added": 0, "removed": 0}, "2": {"added": 6, "removed": 0}}


def test_place_in_the_world_goes_with_the_proposal(tmp_path: Path, given: dict[str, Tensor]) -> None:
    affine = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64))
    training = Training(tmp_path, {case: MetaTensor(label, affine=affine) for case, label in given.items()})
    training.round(_all(5), CLEANSED_PROPOSED)
    stored = training.store.read_stored("d")
    assert stored is not None
    assert stored.header["geometry"] == {"affine": affine.tolist(), "shape": [1, 10]}


@pytest.mark.parametrize(
    ("warm_up", "interval", "max_epochs", "rounds"),
    # from the end of the warm-up every k epochs, but not after the last epoch
    [
        (3, 2, 8, [3, 5, 7]),
        (3, 2, 7, [3, 5]),
        (1, 1, 4, [1, 2, 3]),
        (5, 5, 5, []),
        (0, 4, 9, [4, 8]),
        (6, 3, 4, []),
    ],
)
def test_rounds_follow_the_schedule(
    warm_up: int, interval: int, max_epochs: int, rounds: list[int], tmp_path: Path, given: dict[str, Tensor]
) -> None:
    training = Training(tmp_path, given, warm_up=warm_up, interval=interval)
    training.sweep.predicted, training.sweep.proposed = given, given
    fake_trainer(max_epochs, [training.cleansing]).run()
    assert training.sweep.epochs == rounds
    assert [training.store.record(n + 1)["parameters"]["epoch"] for n in range(len(rounds))] == rounds
    assert training.store.round == len(rounds)


def test_a_round_is_logged(tmp_path: Path, given: dict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="monai_noisylabel"):
        Training(tmp_path, given).round(_all(5), CLEANSED_PROPOSED)
    expected = "Label round 1 after epoch 1: 3 keep_manual, 1 keep_pseudo, 2 relabel of 6; "
    assert f"{expected}{TWO_COMPONENTS}." in caplog.messages


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": 0}, "interval must be at least 1 epoch, got 0"),
        ({"min_missing": -0.1}, "min_missing must not be negative, got -0.1"),
        ({"renew": "never"}, "renew must be 'noisy' or 'always', got 'never'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path, given: dict[str, Tensor]
) -> None:
    with pytest.raises(ValueError, match=message):
        Training(tmp_path, given, **settings)


def test_a_proposal_on_another_grid_is_refused(tmp_path: Path) -> None:
    training = Training(tmp_path, {"a": strip(3)})
    training.sweep.predicted, training.sweep.proposed = {"a": strip(3)}, {"a": torch.zeros(1, 2, 10)}
    with pytest.raises(ValueError, match=r"Case 'a'.*shape"):
        fake_trainer(2, [training.cleansing]).run()


def test_samples_are_judged_in_the_order_of_their_names_whatever_order_they_came_in() -> None:
    records = [SampleRecord(case, 0.5, 0.5, corrected=False, empty=False) for case in ("b", "c", "a", "b")]
    assert [record.case for record in gather_records(records)] == ["a", "b", "c"]


@pytest.mark.distributed
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    # the second rank is padded with the first sample of the first one, as by a sampler of even shares
    one, two = LabelStore(tmp_path / "one"), LabelStore(tmp_path / "two")
    counts = cleanse(0, str(one.root), [CASES])
    # second round: corrections of d with loss 0 and f with loss 1 - 10/11, of which the mixture cuts off
    # f; e is empty
    assert counts == {"labels_keep_manual": 3, "labels_keep_pseudo": 2, "labels_relabel": 1}
    found = run_on_two(cleanse, str(two.root), [CASES[0::2], [*CASES[1::2], CASES[0]]])
    assert found == [counts, counts]
    assert two.round == one.round == 2
    assert two.staged() == []
    for case in CASES:
        np.testing.assert_array_equal(two.read(case), one.read(case))
    for number in (1, 2):
        assert two.record(number)["parameters"] == one.record(number)["parameters"]
        assert set(two.record(number)["cases"]) == set(one.record(number)["cases"])
