"""Interrupted and resumed is the same as never interrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from handler_fakes import fake_trainer, strip
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.transforms import RandScaleIntensityd
from torch import nn

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import EpochStart, RunHistory, TrainingState, training_state
from monai_noisylabel.handlers.training_state import RunSettingsError
from monai_noisylabel.transforms import PerCaseRandom


class Counter:
    """Something with a state."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


class Commit:
    """Commits a round after every epoch; the label of case "a" has as many voxels as epochs have passed."""

    def __init__(self, store: LabelStore) -> None:
        self.store = store

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.store.propose("a", strip(engine.state.epoch).numpy())
        self.store.commit(f"after epoch {engine.state.epoch}")


class StopAt:
    """Raises an error when an event happens in an epoch."""

    def __init__(self, event: Events, epoch: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.event, self.epoch, self.error = event, epoch, error

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch == self.epoch:
            raise self.error("stopped by the test")


def _run(
    folder: Path,
    max_epochs: int = 3,
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
    settings: dict[str, Any] | None = None,
    resume: bool = True,
) -> tuple[list[int], int]:
    """Run or go on; the epochs that were trained, and the state afterwards, which counts iterations."""
    counter, epochs = Counter(), []

    def step(engine: Engine, batch: Any) -> None:
        counter.count += 1
        epochs.append(engine.state.epoch)

    state = TrainingState(folder / "state.pt", {"counter": counter}, settings=settings, resume=resume)
    fake_trainer(max_epochs, [*before, state, *after], step).run()
    return epochs, counter.count


def test_without_a_checkpoint_a_run_starts_at_the_beginning(tmp_path: Path) -> None:
    assert _run(tmp_path) == ([1, 1, 2, 2, 3, 3], 6)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"], "no draft may be left"


def test_a_finished_run_only_ends_again(tmp_path: Path) -> None:
    ended: list[int] = []

    class End:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.COMPLETED, lambda engine: ended.append(engine.state.epoch))

    _run(tmp_path)
    assert _run(tmp_path, after=[End()]) == ([], 6)
    assert ended == [3]


def test_a_run_goes_on_after_its_last_full_epoch(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _run(tmp_path, 4, before=[StopAt(Events.ITERATION_COMPLETED, epoch=3)])
    assert _run(tmp_path, 4) == ([3, 3, 4, 4], 8)


def test_iterations_are_counted_on(tmp_path: Path) -> None:
    _run(tmp_path, 2)
    iterations: list[int] = []
    trainer = fake_trainer(
        3, [TrainingState(tmp_path / "state.pt", {})], lambda engine, _: iterations.append(engine.state.iteration)
    )
    trainer.run()
    assert iterations == [5, 6]


def test_going_on_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path)
    with caplog.at_level(logging.INFO, logger="monai_noisylabel"):
        _run(tmp_path)
    assert f"Continuing after epoch 3 of 3 ({tmp_path / 'state.pt'})." in caplog.messages


@pytest.mark.parametrize(
    ("event", "epoch", "kept"),
    [
        (Events.STARTED, 0, "Nothing is kept"),
        (Events.ITERATION_COMPLETED, 1, "Nothing is kept"),
        (Events.ITERATION_STARTED, 3, "Its first 2 epochs are kept"),
        (Events.EPOCH_STARTED, 3, "Its first 2 epochs are kept"),
        (
            Events.EPOCH_COMPLETED,
            3,
            "Its first 2 epochs are kept",
        ),  # as in a validation, before the state is saved
    ],
)
def test_an_interrupt_ends_the_run_with_a_message(
    event: Events, epoch: int, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        _run(tmp_path, before=[StopAt(event, epoch)])
    assert exit_.value.code == 130
    expected = f"\nInterrupted in epoch {epoch}. {kept}; run the same command again to go on.\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.COMPLETED])
def test_an_interrupt_behind_the_checkpoint_loses_nothing(
    event: Events, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run(tmp_path, after=[StopAt(event, epoch=3)])
    assert "Its first 3 epochs are kept" in capsys.readouterr().out
    assert _run(tmp_path) == ([], 6)


def test_an_interrupt_of_a_resumed_run_counts_the_epochs_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with pytest.raises(SystemExit):
            _run(tmp_path, before=[StopAt(Events.ITERATION_STARTED, epoch=3)])
    assert capsys.readouterr().out.count("Its first 2 epochs are kept") == 2


def test_an_interrupt_is_reported_once_by_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_state, "is_main", lambda: False)
    with pytest.raises(SystemExit):
        _run(tmp_path, before=[StopAt(Events.ITERATION_STARTED, epoch=2)])
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir()), "only the first rank writes"


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError])
def test_other_errors_are_passed_on(error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="stopped by the test"):
        _run(tmp_path, before=[StopAt(Events.ITERATION_STARTED, 2, error)])
    assert _run(tmp_path) == ([2, 2, 3, 3], 6)


def _labels(folder: Path, max_epochs: int = 4, resume: bool = True, **stop: Any) -> LabelStore:
    """A run in ``folder`` that commits a round of labels per epoch."""
    store = LabelStore(folder / "labels")
    handlers: list[Any] = [Commit(store), *([StopAt(**stop)] if stop else [])]
    state = TrainingState(folder / "state.pt", {}, store=store, resume=resume)
    fake_trainer(max_epochs, [*handlers, state]).run()
    return store


def test_rounds_of_an_epoch_that_did_not_finish_are_dropped(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _labels(tmp_path, event=Events.EPOCH_COMPLETED, epoch=3)
    store = LabelStore(tmp_path / "labels")
    assert store.round == 3, "the round was committed before the interrupt"
    store.propose("b", strip(2).numpy())  # what a killed sweep leaves behind
    seen: list[tuple[int, list[str]]] = []

    class Look:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EPOCH_STARTED, lambda _: seen.append((store.round, store.staged())))

    state = TrainingState(tmp_path / "state.pt", {}, store=store)
    fake_trainer(4, [Commit(store), state, Look()]).run()
    assert seen == [(2, []), (3, [])]
    assert [store.record(n)["why"] for n in (1, 2, 3, 4)] == [f"after epoch {n}" for n in (1, 2, 3, 4)]
    assert store.read("b") is None
    assert int(store.read("a").sum()) == 4


def test_a_new_run_starts_from_an_empty_store(tmp_path: Path) -> None:
    _labels(tmp_path)
    (tmp_path / "state.pt").unlink()
    assert _labels(tmp_path, max_epochs=2).round == 2


def test_a_store_that_lost_its_rounds_is_not_gone_on_from(tmp_path: Path) -> None:
    store = _labels(tmp_path, max_epochs=2)
    store.rewind(0)
    with pytest.raises(ValueError, match="has no round 2: its newest is 0"):
        _labels(tmp_path)


def test_starting_over_ignores_the_checkpoint_and_empties_the_store(tmp_path: Path) -> None:
    _run(tmp_path)
    assert _run(tmp_path, resume=False) == ([1, 1, 2, 2, 3, 3], 6)
    _labels(tmp_path / "b")
    assert _labels(tmp_path / "b", max_epochs=1, resume=False).round == 1


def test_starting_over_and_stopping_at_once_leaves_no_checkpoint_of_the_old_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # its rounds are gone, so the old checkpoint could not be gone on from
    _labels(tmp_path)
    with pytest.raises(SystemExit):
        _labels(tmp_path, resume=False, event=Events.EPOCH_STARTED, epoch=1)
    assert "Nothing is kept" in capsys.readouterr().out
    assert not (tmp_path / "state.pt").exists()
    assert _labels(tmp_path, max_epochs=2).round == 2


def test_other_settings_are_refused_by_name_and_with_both_values(tmp_path: Path) -> None:
    _run(tmp_path, settings={"seed": 0, "manifest": "jsrt", "noise": None, "size": (8, 8)})
    with pytest.raises(RunSettingsError) as error:
        _run(tmp_path, settings={"seed": 1, "manifest": "jsrt", "size": (8, 8), "classes": ["lung"]})
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'state.pt'} belongs to a run with other settings (")
    changes = "classes: not set there, ['lung'] now; noise: None there, not set now; seed: 0 there, 1 now"
    assert f"({changes})" in message
    assert "--output_dir" in message
    assert "--resume False" in message


def test_refusing_changes_nothing(tmp_path: Path) -> None:
    _run(tmp_path, settings={"seed": 0})
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(RunSettingsError):
        _run(tmp_path, settings={"seed": 1})
    assert (tmp_path / "state.pt").read_bytes() == before
    assert _run(tmp_path, settings={"seed": "0"}) == ([], 6), "settings are compared as they are written"


class Scaled:
    """Gives a trainer a gradient scaler that works on a CPU."""

    def __init__(self, scaler: torch.amp.GradScaler | None) -> None:
        self.scaler = scaler

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", self.scaler))


def test_the_gradient_scaler_goes_on_too(tmp_path: Path) -> None:
    _run(tmp_path, before=[Scaled(torch.amp.GradScaler("cpu", init_scale=8.0))])
    scaler = torch.amp.GradScaler("cpu")
    _run(tmp_path, before=[Scaled(scaler)])
    assert scaler.get_scale() == 8.0


@pytest.mark.parametrize("first", [None, torch.amp.GradScaler("cpu", init_scale=8.0)], ids=["without", "with"])
def test_mixed_precision_may_change_over_an_interruption(first: torch.amp.GradScaler | None, tmp_path: Path) -> None:
    # as for a run that goes on on another device
    other = torch.amp.GradScaler("cpu", init_scale=4.0) if first is None else None
    _run(tmp_path, before=[Scaled(first)])
    assert _run(tmp_path, 4, before=[Scaled(other)]) == ([4, 4], 8)
    assert other is None or other.get_scale() == 4.0


def _train(folder: Path, interrupt: Callable[[Engine], None] | None = None) -> tuple[list[float], RunHistory]:
    """Four epochs with everything that draws random numbers: weights, dropout, shuffling and augmentation."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=0.9)
    history, augment = RunHistory(), PerCaseRandom([RandScaleIntensityd("image", factors=0.5, prob=1.0)])
    generator = torch.Generator().manual_seed(1)
    items = [
        {"case": f"{i}", "image": torch.rand(1, 2, 2, generator=generator), "label": torch.ones(1)} for i in range(10)
    ]
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler, "history": history}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=4,
        train_data_loader=DataLoader(Dataset(items, augment), batch_size=4, shuffle=True, num_workers=0),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[EpochStart(3, [augment]), LrScheduleHandler(scheduler, print_lr=False)],
        decollate=False,
    )
    if interrupt is not None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: history.rows.append({"epoch": engine.state.epoch, "a": engine.state.output["loss"].item()}),
    )
    TrainingState(folder / "state.pt", objects, settings={"seed": 3}).attach(trainer)
    trainer.run()
    return [value.item() for tensor in network.state_dict().values() for value in tensor.flatten()], history


def test_a_training_interrupted_twice_ends_with_the_very_same_numbers(tmp_path: Path) -> None:
    whole, history = _train(tmp_path / "whole")
    assert history.rows[0] != history.rows[1]
    for epoch in (2, 4):

        def interrupt(engine: Engine, epoch: int = epoch) -> None:
            if engine.state.epoch == epoch and engine.state.iteration % 3 == 2:
                torch.rand(5)
                raise KeyboardInterrupt

        with pytest.raises(SystemExit):
            _train(tmp_path / "parts", interrupt)
    resumed, resumed_history = _train(tmp_path / "parts")
    assert resumed == whole
    assert resumed_history.rows == history.rows
