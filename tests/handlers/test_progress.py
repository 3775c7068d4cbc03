"""One bar over all epochs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from handler_fakes import fake_evaluator, fake_trainer
from ignite.engine import Engine

from monai_noisylabel.handlers import Progress, progress


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The bars that are made, with what they were told."""
    made: list[dict[str, Any]] = []

    class Bar:
        def __init__(self, total: int, initial: int, **_: Any) -> None:
            self.seen: dict[str, Any] = {
                "total": total,
                "n": initial,
                "initial": initial,
                "texts": [],
                "closed": False,
            }
            made.append(self.seen)

        def update(self) -> None:
            self.seen["n"] += 1

        def set_description(self, text: str, refresh: bool = True) -> None:
            self.seen["texts"].append(text)

        def set_postfix_str(self, text: str, refresh: bool = True) -> None:
            self.seen["texts"].append(text)

        def close(self) -> None:
            self.seen["closed"] = True

    monkeypatch.setattr(progress, "tqdm", Bar)
    return made


def test_one_bar_counts_the_steps_of_all_epochs(bars: list[dict[str, Any]]) -> None:
    fake_trainer(3, [Progress()], batches=[0, 1]).run()
    texts = ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert bars == [{"total": 6, "n": 6, "initial": 0, "texts": texts, "closed": True}]


def test_a_resumed_run_starts_where_it_was(bars: list[dict[str, Any]]) -> None:
    trainer = fake_trainer(3, [Progress()], batches=[0, 1])
    trainer.state.epoch, trainer.state.iteration = 2, 4
    trainer.run()
    assert [(bar["initial"], bar["n"], bar["total"]) for bar in bars] == [(4, 6, 6)]


def test_a_finished_run_shows_no_bar(bars: list[dict[str, Any]]) -> None:
    trainer = fake_trainer(3, [Progress()])
    trainer.add_event_handler("STARTED", lambda engine: setattr(engine.state, "epoch", 3))
    trainer.run()
    assert bars == []


def test_the_metric_is_shown_once_it_was_measured(bars: list[dict[str, Any]]) -> None:
    evaluator = fake_evaluator([0], lambda engine, batch: engine.state.metrics.update(dice=0.25 * engine.state.epoch))

    class Validate:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler("EPOCH_COMPLETED", self)

        def __call__(self, engine: Engine) -> None:
            if engine.state.epoch == 2:
                evaluator.run(global_epoch=2)

    fake_trainer(3, [Validate(), Progress(evaluator, "dice")]).run()
    assert bars[0]["texts"] == ["epoch 1/3", "epoch 2/3", "dice 0.500", "epoch 3/3", "dice 0.500"]


def test_the_bar_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    fake_trainer(2, [Progress()], batches=[0, 1, 2]).run()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"epoch 2/2: 100%.* 6/6 ", captured.err)


@pytest.mark.parametrize(("terminal", "seconds"), [(True, 1), (False, 30)])
def test_a_log_file_is_not_flooded(terminal: bool, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(progress, "tqdm", lambda **settings: asked.append(settings))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal)
    fake_trainer(1, [Progress()], batches=[0]).run()
    assert asked[0]["mininterval"] == seconds
