"""Keep rates from every source, at the right time, for all processes, and over an interruption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from handler_fakes import doubted, doubting_sweep, fake_evaluator, fake_trainer, rates_of_share
from ignite.engine import Engine
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, RandLambdad
from torch import Tensor
from two_processes import run_on_two

from monai_noisylabel.estimation import estimated_keep_rates, oracle_keep_rates, with_class_shares
from monai_noisylabel.handlers import KeepRates, TrainingState
from monai_noisylabel.losses import CoTeachingLoss
from monai_noisylabel.losses.peer_loss import PeerLoss

SAMPLES = [doubted(case) for case in range(5)]
STRUCTURES = [doubted(case, channels=2) for case in range(5)]
CLASSES = ["liver", "tumour"]


def build(loss: PeerLoss, source: Any, samples: Sequence[Any] = SAMPLES, **settings: Any) -> KeepRates:
    return KeepRates(
        loss,
        source,
        **{
            "classes": CLASSES,
            "num_classes": 3,
            "sweep": doubting_sweep(samples),
            "dataset": Dataset(samples, Compose([])),
            **settings,
        },
    )


def rows(handler: KeepRates, max_epochs: int) -> list[dict[str, float]]:
    """What every epoch of a training publishes."""
    found: list[dict[str, float]] = []

    def note(engine: Engine) -> None:
        found.append(dict(engine.state.metrics))

    trainer = fake_trainer(max_epochs, [handler])
    trainer.add_event_handler("EPOCH_COMPLETED", note)
    trainer.run()
    return found


def named(rates: Sequence[float]) -> dict[str, float]:
    names = ["background", *CLASSES] if len(rates) == 3 else ["no_liver", "liver", "no_tumour", "tumour"]
    return {f"keep_rate/{name}": pytest.approx(rate) for name, rate in zip(names, rates, strict=True)}


def estimate_of(cases: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """Rates from probabilities of a network that has learned all classes alike."""
    voxels = torch.cat([label.flatten() for _, label in cases]).long().bincount(minlength=len(cases[0][0]))
    return estimated_keep_rates([(with_class_shares(p, voxels / voxels.sum()), label) for p, label in cases]).tolist()


def estimates() -> list[float]:
    return estimate_of([(s["logits"].softmax(0), s["label"][0]) for s in SAMPLES])


def structure_estimates(samples: Sequence[Any]) -> list[float]:
    rates: list[float] = []
    for k in range(2):
        p = [s["logits"][k].float().sigmoid() for s in samples]
        rates += estimate_of([(torch.stack([1 - q, q]), s["label"][k]) for q, s in zip(p, samples, strict=True)])
    return rates


def test_numbers_are_set_at_the_start_and_published_every_epoch() -> None:
    loss = CoTeachingLoss(3)
    buffer = loss.keep_rates
    assert rows(build(loss, (1.0, 0.5, 0.25)), 2) == [named([1.0, 0.5, 0.25])] * 2
    assert buffer.tolist() == [1.0, 0.5, 0.25]  # written in place
    assert rows(build(loss, 0.75), 1) == [named([0.75] * 3)]
    pairs = [[1.0, 0.5], [0.75, 0.25]]
    several = build(CoTeachingLoss(2, sigmoid=True), pairs, num_classes=None)
    assert rows(several, 1) == [named([1.0, 0.5, 0.75, 0.25])]


def test_oracle_counts_the_training_labels_without_augmentation() -> None:
    spoil = RandLambdad(["label", "clean_label"], func=lambda label: 0 * label)
    dataset = Dataset([{**s, "label": MetaTensor(s["label"])} for s in SAMPLES], Compose([spoil]))
    expected = oracle_keep_rates([(s["label"][0], s["clean_label"][0]) for s in SAMPLES], 3).tolist()
    assert all(0.3 < rate < 0.7 for rate in expected)
    assert rows(build(CoTeachingLoss(3), "oracle", dataset=dataset), 2) == [named(expected)] * 2


def test_oracle_of_overlapping_structures() -> None:
    pairs = [[(s["label"][k], s["clean_label"][k]) for s in STRUCTURES] for k in range(2)]
    expected = [rate for k in range(2) for rate in oracle_keep_rates(pairs[k], 2).tolist()]
    loss = CoTeachingLoss(2, sigmoid=True)
    assert rows(build(loss, "oracle", STRUCTURES, num_classes=None), 1) == [named(expected)]
    assert loss.keep_rates.shape == (2, 2)


def test_clean_labels_that_are_not_known_are_not_made_up() -> None:
    bare = [{name: value for name, value in s.items() if name != "clean_label"} for s in SAMPLES]
    for settings in ({"dataset": Dataset(bare, Compose([]))}, {"truth_known": False}):
        with pytest.raises(ValueError, match=r"that of case 'case 0' is not known. Simulate noise.* 'estimated'"):
            rows(build(CoTeachingLoss(3), "oracle", **settings), 1)


@pytest.mark.parametrize(("warm_up", "max_epochs", "swept"), [(2, 6, [2] * 3), (1, 3, [1] * 3), (4, 4, []), (5, 4, [])])
def test_one_estimate_follows_the_warm_up(warm_up: int, max_epochs: int, swept: list[int]) -> None:
    """Of three passes; nothing is left out before it, and it does not come after the last epoch."""
    loss = CoTeachingLoss(3)
    sweep, epochs = doubting_sweep(SAMPLES), []
    sweep.add_event_handler("EPOCH_STARTED", lambda engine: epochs.append(engine.state.epoch))
    found = rows(build(loss, "estimated", sweep=sweep, warm_up=warm_up), max_epochs)
    assert epochs == swept
    assert found == [named([1.0] * 3)] * min(warm_up, max_epochs) + [named(estimates())] * (max_epochs - warm_up)
    assert all(0.3 < rate < 0.9 for rate in estimates())


@pytest.mark.parametrize(
    ("settings", "swept", "estimated"),
    [
        ({"latest": 9}, [2, 3, 4, 4, 4], 4),  # both classes learned after epoch 4
        ({"latest": 9, "learned": 0.1}, [2, 2, 2], 2),
        ({"latest": 3}, [2, 3, 3, 3], 3),  # in any case
        ({"latest": 9, "learned": 0.95}, [2, 3, 4, 5], None),  # nothing would be left to learn from an estimate after 6
        ({}, [2, 2, 2], 2),
    ],
    ids=str,
)
def test_an_estimate_waits_until_every_class_is_learned(
    settings: dict[str, Any], swept: list[int], estimated: int | None
) -> None:
    # the mean probability of class 1 over its voxels, one of which is wrong, is 0.4, and 0.73 after epoch 4
    clean = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]])
    given = torch.tensor([[[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]]])
    votes = torch.cat([clean == c for c in range(2)]) * 2.0 - 1
    epochs: list[int] = []

    def predict(engine: Engine, batch: Any) -> Any:
        epochs.append(engine.state.epoch)
        return [{"pred": votes if engine.state.epoch >= 4 else votes + torch.tensor([2.0, 0.0])[:, None, None]}]

    sweep = fake_evaluator([[{"case": "case", "label": given.byte()}]], predict)
    loss = CoTeachingLoss(2)
    handler = build(loss, "estimated", [], sweep=sweep, classes=["liver"], num_classes=2, warm_up=2, **settings)
    found = [row["keep_rate/liver"] for row in rows(handler, 6)]
    assert epochs == swept
    assert found == [1.0] * (estimated or 6) + [pytest.approx(0.8)] * (6 - (estimated or 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_estimates_of_overlapping_structures(dtype: torch.dtype) -> None:
    samples = [{**s, "logits": s["logits"].to(dtype)} for s in STRUCTURES]
    handler = build(CoTeachingLoss(2, sigmoid=True), "estimated", samples, num_classes=None, warm_up=1)
    assert rows(handler, 2)[1] == named(structure_estimates(samples))


def test_probabilities_that_half_precision_cannot_tell_apart() -> None:
    # p(9) = 0.99988 < t = mean of p(9), p(10), p(10) < p(10) = 0.99995; all are 1 in half precision. So the last voxel,
    # which is given 0, does not count as a confident 1
    logits = torch.tensor([[[9.0, 10.0, 10.0, -5.0, -5.0, 9.0]]])
    sample = {"label": torch.tensor([[[1, 1, 1, 0, 0, 0]]]), "logits": logits.half()}
    settings = {"classes": ["liver"], "num_classes": None, "warm_up": 1}
    handler = build(CoTeachingLoss(1, sigmoid=True), "estimated", [sample], **settings)
    assert rows(handler, 2)[1] == {"keep_rate/no_liver": 1.0, "keep_rate/liver": 1.0}


@pytest.mark.distributed
@pytest.mark.parametrize("source", ["estimated", "oracle"])
def test_two_processes_equal_one(source: str) -> None:
    shares = [[0, 1, 2], [3, 4]]
    one, cases = rates_of_share(0, source, [[*shares[0], *shares[1]]])
    assert len(set(one)) == 3
    (first, read), (second, rest) = run_on_two(rates_of_share, source, shares)
    assert first == second == one
    assert sorted(read + rest) == sorted(cases)  # no label is read twice
    assert len(cases) == (5 if source == "oracle" else 0)


class StopAfter:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler("EPOCH_STARTED", self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch > self.epoch:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_rates_of_the_uninterrupted_one(tmp_path: Path) -> None:
    """Also where the network has changed since and would give others."""

    def train(samples: Sequence[Any], stop: int = 9) -> Tensor:
        loss = CoTeachingLoss(3)
        state = TrainingState(tmp_path / "state.pt", {"loss": loss})
        trainer = fake_trainer(4, [build(loss, "estimated", samples, warm_up=2), state, StopAfter(stop)])
        try:
            trainer.run()
        except SystemExit:
            assert trainer.state.epoch == stop + 1
        return loss.keep_rates

    for stop in (2, 3):
        (tmp_path / "state.pt").unlink(missing_ok=True)
        interrupted = train(SAMPLES, stop)
        assert interrupted.tolist() == pytest.approx(estimates())
        assert torch.equal(train(SAMPLES[:2]), interrupted)


def test_an_estimate_that_doubts_most_of_a_class_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    # of the 30 voxels given class 1 the network finds 20 to be of class 2
    found = torch.tensor([0] * 10 + [1] * 10 + [2] * 30)
    given = torch.tensor([0] * 10 + [1] * 30 + [2] * 10)
    sample = {"label": given.view(1, 1, 50), "logits": 3.0 * torch.stack([found == c for c in range(3)])[:, None]}
    with caplog.at_level(logging.WARNING):
        found_rates = rows(build(CoTeachingLoss(3), "estimated", [sample], warm_up=1), 2)[1]
    assert found_rates == named([1.0, 1 / 3, 1.0])
    assert "Most voxels labelled liver are taken to be wrong." in caplog.text


def test_a_warm_up_longer_than_the_training_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = rows(build(CoTeachingLoss(3), "estimated", warm_up=2), 2)
    assert found == [named([1.0] * 3)] * 2
    assert "estimated after 2 epochs and the training has 2: nothing will be left out" in caplog.text


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("guessed", {}, "source must be 'estimated', 'oracle' or numbers, got 'guessed'"),
        ([0.5, 0.5], {}, r"one for every class, background first, form \(3,\)"),
        ("estimated", {"sweep": None}, "need a sweep"),
        ("oracle", {"dataset": None}, "need the training dataset"),
        ("estimated", {"warm_up": 0}, "at least 1 epoch, got 0"),
        ("estimated", {"warm_up": 3, "latest": 2}, "latest must not come before warm_up, 3 epochs, got 2"),
        ("estimated", {"learned": 0.0}, "learned must be a probability greater than 0, got 0.0"),
        ("estimated", {"classes": ["liver"]}, r"form \(3,\), which does not fit the rates background, liver"),
    ],
)
def test_what_cannot_work_is_refused(source: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(CoTeachingLoss(3), source, **settings)
