"""What a run remembers."""

from __future__ import annotations

from pathlib import Path

import torch

from monai_noisylabel.handlers import RunHistory


def test_a_new_history_is_empty() -> None:
    history = RunHistory()
    assert (history.rows, history.best, history.best_epoch, history.seconds) == ([], None, 0, 0.0)
    assert history.values("train_loss") == []
    assert history.as_csv() == "\n"


def test_numbers_of_some_epochs_leave_the_others_blank() -> None:
    history = RunHistory()
    history.rows = [{"epoch": 1, "b": 0.5}, {"epoch": 2, "a": 0.25, "b": 1.0}, {"epoch": 3, "a": 0.125}]
    assert history.as_csv() == "epoch,b,a\n1,0.5,\n2,1.0,0.25\n3,,0.125\n"
    assert history.values("a") == [(2, 0.25), (3, 0.125)]


def test_a_number_that_is_not_defined_is_kept_as_such() -> None:
    history = RunHistory()
    history.rows = [{"epoch": 1, "dice": float("nan")}]
    assert history.as_csv() == "epoch,dice\n1,nan\n"


def test_a_checkpoint_carries_all_of_it(tmp_path: Path) -> None:
    history, other = RunHistory(), RunHistory()
    history.rows = [{"epoch": 1, "train_loss": 0.5}]
    history.best, history.best_epoch, history.seconds = 0.75, 1, 2.5
    torch.save(history.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert vars(other) == vars(history)
