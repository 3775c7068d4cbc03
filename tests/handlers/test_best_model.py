"""Which epoch's weights are kept, and that anything can load them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from handler_fakes import fake_evaluator
from ignite.engine import Engine
from torch import nn

from monai_noisylabel.handlers import BestModel, RunHistory, best_model, load_weights

NAN = float("nan")


def _network(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def _evaluate(values: Sequence[float], handler: BestModel, network: nn.Linear, first: int = 1) -> list[float | None]:
    """Evaluate once per value, the weight being the epoch; the weight saved after each."""
    saved: list[float | None] = []

    def step(engine: Engine, batch: Any) -> None:
        engine.state.metrics["val_mean_dice"] = values[engine.state.epoch - first]

    evaluator = fake_evaluator([0], step, [handler])
    for epoch in range(first, first + len(values)):
        nn.init.constant_(network.weight, epoch)
        evaluator.run(global_epoch=epoch)
        exists = handler.path.exists()
        saved.append(torch.load(handler.path, weights_only=True)["weight"].item() if exists else None)
    return saved


def test_saved_is_the_first_of_the_best(tmp_path: Path) -> None:
    network, history = _network(0), RunHistory()
    handler = BestModel(network, tmp_path / "models" / "model.pt", history)
    # undefined: nothing; 0.3: saved; 0.2: no; 0.5: saved; 0.5 again: no, not larger; undefined: no
    assert _evaluate([NAN, 0.3, 0.2, 0.5, 0.5, NAN], handler, network) == [None, 2, 2, 4, 4, 4]
    assert (history.best, history.best_epoch) == (0.5, 4)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.pt"], "no draft may be left"


def test_even_a_dice_of_zero_is_better_than_none(tmp_path: Path) -> None:
    network = _network(0)
    assert _evaluate([0.0, 0.0], BestModel(network, tmp_path / "model.pt", RunHistory()), network) == [1, 1]


def test_a_resumed_run_goes_on_from_the_best_so_far(tmp_path: Path) -> None:
    network, history = _network(0), RunHistory()
    _evaluate([0.5], BestModel(network, tmp_path / "model.pt", history), network)
    resumed = RunHistory()
    resumed.load_state_dict(history.state_dict())
    handler = BestModel(network, tmp_path / "model.pt", resumed)
    assert _evaluate([0.4, 0.6], handler, network, first=2) == [1, 3]


def test_another_metric_may_decide(tmp_path: Path) -> None:
    history = RunHistory()
    handler = BestModel(_network(0), tmp_path / "model.pt", history, metric="val_mean_dice_tumour")

    def step(engine: Engine, batch: Any) -> None:
        engine.state.metrics.update(val_mean_dice=0.9, val_mean_dice_tumour=0.1)

    fake_evaluator([0], step, [handler]).run()
    assert history.best == 0.1


def test_other_ranks_remember_but_do_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_model, "is_main", lambda: False)
    network, history = _network(0), RunHistory()
    assert _evaluate([0.5], BestModel(network, tmp_path / "model.pt", history), network) == [None]
    assert history.best_epoch == 1


class Compiled(nn.Module):
    """Holds the network as torch.compile does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, Compiled, lambda network: nn.DataParallel(Compiled(network))],
    ids=["ddp", "jit", "both"],
)
def test_weights_are_those_of_the_plain_network(wrap: Any, tmp_path: Path) -> None:
    network = _network(2.0)
    handler = BestModel(wrap(network), tmp_path / "model.pt", RunHistory())
    _evaluate([0.5], handler, network)
    assert list(torch.load(tmp_path / "model.pt", weights_only=True)) == ["weight"]
    other = _network(5.0)
    load_weights(wrap(other), tmp_path / "model.pt")
    assert other.weight.item() == 1.0


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No weights at .*none\.pt: train the bundle first.*--ckpt_dir"):
        load_weights(_network(0), tmp_path / "none.pt")


def test_epochs_of_other_networks_do_not_count(tmp_path: Path) -> None:
    network, history = _network(0.0), RunHistory(first_epoch=3)
    handler = BestModel(network, tmp_path / "model.pt", history)
    assert _evaluate([0.9, 0.8, 0.5, 0.6], handler, network) == [None, None, 3.0, 4.0]
    assert (history.best, history.best_epoch) == (0.6, 4)
