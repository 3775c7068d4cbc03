"""When a superpixel refinement happens, what it changes, and how it goes on after an interruption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from handler_fakes import fake_trainer
from monai.engines import Trainer
from torch import nn

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import SuperpixelRefinement
from monai_noisylabel.handlers.relabelled import Relabelled
from monai_noisylabel.losses import SuperpixelLoss

RISE_AND_FALL = [1.0, 2.0, 3.0, 2.9, 2.8]
"""A stage with its maximum in the third epoch, which a patience of 2 ends after the fifth."""


class CountedSweep:
    """Stands for a sweep over two cases and what relabels one of them; remembers its epochs."""

    over_set = True

    def __init__(self, store: LabelStore, loss: SuperpixelLoss) -> None:
        self.store, self.loss = store, loss
        self.epochs: list[int] = []
        self.changes: list[Relabelled] = []

    def run(self, global_epoch: int) -> None:
        self.epochs.append(global_epoch)
        self.store.propose("b", torch.full((1, 2, 2), global_epoch))
        empty, half, better = (torch.tensor([value]) for value in (float("nan"), 0.5, 0.75))
        self.changes = [Relabelled("a", 0, empty, empty), Relabelled("b", 3, half, better)]


class Training:
    """A training whose loss has the gaps that a test wants, epoch by epoch; None: none of the batches has one."""

    def __init__(self, folder: Path, gaps: Sequence[float | None], keep_rates: Any = 0.5, **settings: Any) -> None:
        self.gaps = gaps
        self.loss = SuperpixelLoss(2, keep_rates, ramp_epochs=settings.pop("ramp_epochs", 0))
        self.store = LabelStore(folder / "store")
        self.sweep = CountedSweep(self.store, self.loss)
        settings = {"patience": 2, "cap": 0.9, **settings}
        self.refinement = SuperpixelRefinement(self.sweep, self.sweep, ["liver"], **settings)  # type: ignore[arg-type]
        self.trained: list[int] = []

    def trainer(self, max_epochs: int | None = None) -> Trainer:
        return fake_trainer(max_epochs or len(self.gaps) + 1, [self.refinement], self._step)

    def run(self) -> Trainer:
        trainer = self.trainer()
        trainer.run()
        return trainer

    def _step(self, engine: Trainer, batch: Any) -> list[dict[str, float]]:
        epoch = engine.state.epoch - 1
        if engine.state.iteration % 2:
            self.loss.epoch = epoch
            self.trained.append(engine.state.epoch)
        if epoch < len(self.gaps) and self.gaps[epoch] is not None:
            self.loss._gaps += torch.tensor([self.gaps[epoch], 1.0])
        return [{"loss": 0.0}]


def test_a_stage_ends_when_the_gap_has_had_no_new_maximum(tmp_path: Path) -> None:
    training = Training(tmp_path, [*RISE_AND_FALL, 0.5, 0.6, 0.6, 0.55, 0.7])
    trainer = training.run()
    # the first stage ends after epoch 5; in the second one, 0.5 0.6 0.6 0.55: the equal value is no new maximum
    assert training.sweep.epochs == [5, 9]
    assert trainer.state.metrics["superpixel_gap"] == pytest.approx(0.7)
    assert [training.store.record(n)["parameters"]["gaps"] for n in (1, 2)] == [
        pytest.approx(RISE_AND_FALL),
        pytest.approx([0.5, 0.6, 0.6, 0.55]),
    ]


def test_epochs_without_gap_and_with_a_falling_keep_rate_do_not_count(tmp_path: Path) -> None:
    # the ramp takes epochs 1 and 2, in epoch 4 everything was selected
    training = Training(tmp_path, [9.0, 8.0, 1.0, None, 2.0, 1.5, 1.4, 1.3], ramp_epochs=2)
    training.run()
    assert training.sweep.epochs == [7]


def test_a_stage_that_goes_on_rising_ends_in_time(tmp_path: Path) -> None:
    training = Training(tmp_path, [float(n) for n in range(10)], max_stage=4)
    training.run()
    assert training.sweep.epochs == [4, 8]
    training = Training(tmp_path / "unbounded", [float(n) for n in range(10)])
    training.run()
    assert training.sweep.epochs == []


def test_no_round_after_the_last_epoch(tmp_path: Path) -> None:
    training = Training(tmp_path, RISE_AND_FALL)
    training.trainer(max_epochs=5).run()
    assert training.sweep.epochs == []


def test_iteration_ends_with_a_stage_that_does_not_rise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    falling = [1.0, 0.9, 0.8]
    again = [0.1, 0.9, 0.3, 0.2]  # would end a stage, were there still one
    training = Training(tmp_path, [*RISE_AND_FALL, *falling, *again])
    with caplog.at_level(logging.INFO, logger="monai_noisylabel"):
        training.run()
    assert training.sweep.epochs == [5]
    assert training.refinement.ended_at == 8
    assert training.trained == list(range(1, 14)), "training goes on to its last epoch"
    assert "After epoch 8 and 1 label round(s) the loss gap no longer rises." in caplog.messages
    assert "Label round 1 after epoch 5: 1 of 2 relabelled." in caplog.messages


def test_first_stage_is_refined_even_if_its_gap_never_rose(tmp_path: Path) -> None:
    training = Training(tmp_path, [3.0, 2.0, 1.0])
    training.run()
    assert training.sweep.epochs == [3]


def test_training_stops_with_the_iteration_if_told_to(tmp_path: Path) -> None:
    training = Training(tmp_path, [*RISE_AND_FALL, 1.0, 0.9, 0.8, 0.7, 0.6], at_end="stop")
    trainer = training.run()
    assert training.trained == list(range(1, 9))
    assert trainer.state.epoch == 8


@pytest.mark.parametrize(("max_rounds", "rounds", "ended_at"), [(0, [], 5), (1, [5], 10), (None, [5, 10], 0)])
def test_number_of_rounds_can_be_bounded(
    max_rounds: int | None, rounds: list[int], ended_at: int, tmp_path: Path
) -> None:
    training = Training(tmp_path, [*RISE_AND_FALL, *RISE_AND_FALL], max_rounds=max_rounds)
    training.run()
    assert training.sweep.epochs == rounds
    assert training.refinement.ended_at == ended_at


def test_keep_rates_rise_to_their_caps_and_never_fall(tmp_path: Path) -> None:
    training = Training(tmp_path, RISE_AND_FALL * 3, keep_rates=[0.98, 0.7], gamma=1.2, cap=[0.9, 0.95])
    training.run()
    used = [training.store.record(n)["parameters"]["keep_rates"] for n in (1, 2, 3)]
    assert used == [pytest.approx([0.98, 0.7]), pytest.approx([0.98, 0.84]), pytest.approx([0.98, 0.95])]
    assert training.loss.keep_rates.tolist() == pytest.approx([0.98, 0.95])


def test_record_and_metrics_of_a_round(tmp_path: Path) -> None:
    training = Training(tmp_path, RISE_AND_FALL)
    trainer = training.trainer()
    seen: list[float] = []
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: seen.append(engine.state.metrics["superpixel_gap"]))
    trainer.run()
    assert seen[:5] == pytest.approx(RISE_AND_FALL)
    assert trainer.state.metrics["labels_relabel"] == 1
    record = training.store.record(1)
    assert record["method"] == "superpixel"
    assert set(record["cases"]) == {"b"}
    parameters = record["parameters"]
    assert (parameters["epoch"], parameters["samples"]) == (5, 2)
    assert (parameters["relabelled"], parameters["voxels_relabelled"]) == (1, 3)
    assert (
        parameters["dice_to_clean"]
        == {
            "before": {"mean": 0.5, "liver": 0.5},
            "after": {"mean": 0.5, "liver": 0.75},
        }
        or parameters["dice_to_clean"]["after"]["liver"] == 0.75
    )


def test_restart_begins_with_the_first_weights_and_everything_selected(tmp_path: Path) -> None:
    networks = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9)
    settings: dict[str, Any] = {"restart": True, "networks": networks, "optimizer": optimizer, "ramp_epochs": 1}
    training = Training(tmp_path, [7.0, *RISE_AND_FALL, 7.0, *RISE_AND_FALL], **settings)
    first = {name: value.clone() for name, value in networks.state_dict().items()}
    trainer = training.trainer()
    weights, ramps, steps = [], [], []

    def learn(engine: Trainer) -> None:
        ramps.append(training.loss.falling)
        weights.append(all(torch.equal(value, first[name]) for name, value in networks.state_dict().items()))
        steps.append(len(optimizer.state))
        networks(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    trainer.add_event_handler("ITERATION_COMPLETED", learn)
    trainer.run()
    assert training.sweep.epochs == [6, 12]
    # two steps per epoch: new at the start of epochs 1, 7 and 13
    new = [number for number, value in enumerate(weights) if value]
    assert new == [0, 12, 24]
    assert [number for number, value in enumerate(steps) if value == 0] == new
    assert [number for number, value in enumerate(ramps) if value] == [0, 1, 12, 13, 24, 25]


def test_without_restart_the_networks_go_on_with_the_keep_rate_in_full(tmp_path: Path) -> None:
    training = Training(tmp_path, [7.0, *RISE_AND_FALL, *RISE_AND_FALL], ramp_epochs=1)
    training.run()
    assert training.sweep.epochs == [6, 11]
    assert training.loss.first_epoch == 0


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("settings", [{}, {"at_end": "stop"}, {"restart": True}], ids=str)
def test_resumed_equals_uninterrupted(at: int, settings: dict[str, Any], tmp_path: Path) -> None:
    gaps = [7.0, *RISE_AND_FALL, 1.0, 0.9, 0.8, 0.7, 0.9, 0.6]
    settings = {**settings, "ramp_epochs": 1}

    def start(folder: Path) -> Training:
        networks = nn.Linear(1, 1)
        return Training(
            folder, gaps, networks=networks, optimizer=torch.optim.SGD(networks.parameters(), lr=0.1), **settings
        )

    whole = start(tmp_path / "whole")
    whole.run()
    broken = start(tmp_path / "parts")
    trainer = broken.trainer()
    states: dict[int, Any] = {}

    def save(engine: Trainer) -> None:
        states[engine.state.epoch] = (broken.refinement.state_dict(), broken.loss.state_dict(), engine.state.iteration)
        if engine.state.epoch == at:
            engine.terminate(skip_completed=True)

    trainer.add_event_handler("EPOCH_COMPLETED", save)
    trainer.run()
    resumed = start(tmp_path / "parts")
    again = resumed.trainer()

    def restore(engine: Trainer) -> None:
        refinement, loss, engine.state.iteration = states[max(states)]
        resumed.refinement.load_state_dict(refinement)
        resumed.loss.load_state_dict(loss)
        engine.state.epoch = max(states)

    again.add_event_handler("STARTED", restore)
    again.run()
    assert broken.sweep.epochs + resumed.sweep.epochs == whole.sweep.epochs
    assert [*broken.trained, *resumed.trained] == whole.trained
    assert resumed.refinement.state_dict() == whole.refinement.state_dict()
    assert torch.equal(resumed.loss.keep_rates, whole.loss.keep_rates)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience must be at least 1 epoch, got 0"),
        ({"max_stage": 0}, "max_stage must be at least 1 epoch, or None, got 0"),
        ({"gamma": 0.9}, "gamma must be at least 1, got 0.9"),
        ({"cap": 1.2}, r"cap must be a number in \[0, 1\], or one for each of 2 labels; got 1.2"),
        ({"cap": [0.9] * 3}, "one for each of 2 labels"),
        ({"max_rounds": -1}, "max_rounds must not be negative, got -1"),
        ({"at_end": "wait"}, "at_end must be 'continue' or 'stop', got 'wait'"),
        ({"restart": True}, "restart=True needs the networks and their optimizer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Training(tmp_path, [], **settings)
