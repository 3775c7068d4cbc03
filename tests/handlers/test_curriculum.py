from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from handler_fakes import fake_trainer
from torch import Tensor

from monai_noisylabel.handlers import ClassCurriculum, PublishedValues
from monai_noisylabel.losses import CLCSLoss
from monai_noisylabel.losses.clcs import EpochTotals


class Counted:
    """A loss of background, liver and tumour whose counts are written by hand, one entry per epoch."""

    def __init__(self, *epochs: tuple[Sequence[int], Sequence[int], Sequence[Sequence[int]]]) -> None:
        self.epochs = list(epochs)
        self.warming_up = torch.tensor(True)
        self.thresholds = torch.tensor([[[0.95, 0.5, 0.25]], [[0.9, 0.4, 0.0]]])

    def take_totals(self) -> EpochTotals:
        labelled, clean, predicted = self.epochs.pop(0)
        return EpochTotals(torch.tensor([labelled]), torch.tensor([clean]), torch.tensor(predicted)[:, None])


ALL = [900, 80, 20]
SEEN = (ALL, ALL, [[900, 90, 10], [880, 100, 20]])
UNSEEN = (ALL, ALL, [[950, 50, 0], [880, 100, 20]])


def warming(loss: Any, max_epochs: int, **settings: Any) -> list[bool]:
    """Whether the loss warms up in each epoch."""
    noted: list[bool] = []

    def step(engine: Any, batch: Any) -> list[dict[str, float]]:
        noted.append(bool(loss.warming_up))
        return [{"loss": 0.0}]

    handler = ClassCurriculum(loss, ["liver", "tumour"], 3, **settings)
    fake_trainer(max_epochs, [handler], step, batches=[0]).run()
    return noted


class TestWarmUp:
    def test_lasts_a_tenth_of_the_run(self) -> None:
        assert warming(Counted(*[SEEN] * 30), 30) == [True] * 3 + [False] * 27
        assert warming(Counted(*[SEEN] * 31), 31) == [True] * 4 + [False] * 27  # a tenth has passed after 3.1
        assert warming(Counted(*[SEEN] * 100), 100, warm_up=0.07).count(True) == 7  # 0.07 * 100 is more in floats

    def test_waits_for_every_class_in_both_branches(self) -> None:
        loss = Counted(*[UNSEEN] * 4, *[SEEN] * 2, *[UNSEEN] * 4)
        assert warming(loss, 10) == [True] * 5 + [False] * 5  # and does not come back
        swapped = (ALL, ALL, UNSEEN[2][::-1])
        assert warming(Counted(*[swapped] * 4), 4) == [True] * 4

    def test_classes_seen_early_must_still_be_seen(self) -> None:
        assert warming(Counted(SEEN, SEEN, *[UNSEEN] * 18), 20, warm_up=0.2) == [True] * 20

    def test_random_answers_of_the_first_epoch_do_not_end_it(self) -> None:
        assert warming(Counted(*[SEEN] * 3), 3) == [True, True, False]

    def test_less_than_half_of_the_labelled_voxels_is_too_little(self) -> None:
        stray = (ALL, ALL, [[900, 91, 9], [880, 100, 20]])
        assert warming(Counted(*[stray] * 3), 3) == [True] * 3
        assert warming(Counted(*[stray] * 3), 3, min_predicted=0.45) == [True, True, False]

    def test_one_voxel_is_needed_at_least(self) -> None:
        assert warming(Counted(*[UNSEEN] * 3), 3, min_predicted=0.0) == [True] * 3

    def test_a_class_without_labels_is_not_waited_for(self) -> None:
        absent = ([900, 80, 0], [900, 80, 0], UNSEEN[2])
        assert warming(Counted(*[absent] * 3), 3) == [True, True, False]

    def test_says_what_it_waits_for_and_when_it_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        warming(Counted(*[UNSEEN] * 4, *[SEEN] * 6), 10, warm_up=0.3)
        texts = [record.getMessage() for record in caplog.records if "curriculum" in record.name]
        assert texts == [
            "Epoch 3: the warm-up goes on, because too little is predicted of tumour by branch 1.",
            "The warm-up has ended with epoch 5; from now on voxels are selected.",
        ]


def published(loss: Any, classes: Sequence[str], num_classes: int | None) -> dict[str, float]:
    trainer = fake_trainer(1, [ClassCurriculum(loss, classes, num_classes)])
    trainer.run()
    return trainer.state.metrics


class TestPublishing:
    def test_thresholds_and_clean_fractions(self) -> None:
        loss = Counted(([900, 80, 0], [450, 20, 0], [[0] * 3] * 2))
        expected = {
            "threshold_1/background": 0.95,
            "threshold_1/liver": 0.5,
            "threshold_1/tumour": 0.25,
            "threshold_2/background": 0.9,
            "threshold_2/liver": 0.4,
            "threshold_2/tumour": 0.0,
            "clean_fraction/background": 0.5,
            "clean_fraction/liver": 0.25,
        }
        assert published(loss, ["liver", "tumour"], 3) == pytest.approx(expected)

    def test_structures_that_overlap(self) -> None:
        loss = CLCSLoss(num_classes=2, sigmoid=True)
        loss((torch.ones(1, 4, 3), torch.ones(1, 2, 3)), torch.tensor([[[0, 1, 1], [0, 0, 0]]]))
        metrics = published(loss, ["disc", "cup"], None)
        assert set(metrics) == {
            *(f"threshold_{k}/{name}" for k in (1, 2) for name in ("no_disc", "disc", "no_cup", "cup")),
            *(f"clean_fraction/{name}" for name in ("no_disc", "disc", "no_cup")),
        }

    def test_others_may_publish_too(self) -> None:
        loss = Counted(SEEN)
        handlers = [PublishedValues({"other": lambda: 1.0}), ClassCurriculum(loss, ["liver", "tumour"], 3)]
        trainer = fake_trainer(1, handlers)
        trainer.run()
        assert len(trainer.state.metrics) == 10


class TestAlarm:
    def alarms(self, caplog: pytest.LogCaptureFixture, *epochs: Any) -> list[str]:
        trainer = fake_trainer(len(epochs), [ClassCurriculum(Counted(*epochs), ["liver", "tumour"], 3)])
        trainer.run()
        return [record.getMessage() for record in caplog.records if "counts as clean" in record.getMessage()]

    def test_a_class_of_which_nothing_is_clean(self, caplog: pytest.LogCaptureFixture) -> None:
        lost = (ALL, [800, 0, 1], SEEN[2])
        texts = self.alarms(caplog, SEEN, SEEN, lost)
        assert len(texts) == 1
        assert texts[0].startswith(
            "Epoch 3: no voxel labelled liver counts as clean. The branches have lost this class"
        )
        assert caplog.records[-1].levelno == logging.WARNING

    def test_none_for_classes_without_labels_or_with_a_clean_voxel(self, caplog: pytest.LogCaptureFixture) -> None:
        assert self.alarms(caplog, SEEN, SEEN, ([900, 80, 0], [800, 1, 0], SEEN[2])) == []


def test_errors() -> None:
    loss = CLCSLoss(num_classes=3)
    for name in ("warm_up", "min_predicted"):
        with pytest.raises(ValueError, match=f"{name} must be a share between 0 and 1, got 1.5"):
            ClassCurriculum(loss, ["a", "b"], 3, **{name: 1.5})
    with pytest.raises(ValueError, match=r"form \(1, 3\), which does not fit the classes background, a"):
        ClassCurriculum(loss, ["a"], 2)


def test_a_real_loss_is_ended() -> None:
    loss = CLCSLoss(num_classes=2)
    output = torch.tensor([[[3.0, -3.0], [-3.0, 3.0]]]).repeat(1, 2, 1), torch.ones(1, 2, 1)

    def step(engine: Any, batch: Tensor) -> list[dict[str, float]]:
        return [{"loss": loss(output, batch).item()}]

    fake_trainer(2, [ClassCurriculum(loss, ["a"], 2)], step, batches=[torch.tensor([[[0, 1]]])]).run()
    assert not loss.warming_up
    assert not loss.state_dict()["warming_up"]
