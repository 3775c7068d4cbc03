"""Weights of cases over batches, epochs, interruptions and processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from handler_fakes import fake_trainer
from pick_fakes import weights_of_share
from two_processes import run_on_two

from monai_noisylabel.handlers import CaseWeights


def items(names: str) -> list[dict[str, str]]:
    return [{"case": name} for name in names]


class Weighing:
    """A training whose loss gives case x in epoch e the weight ``table[x] * e``."""

    def __init__(self, table: dict[str, float], batches: list[str], epochs: int, last: int = 10) -> None:
        self.loss = SimpleNamespace(weights=torch.empty(0))
        self.handler = CaseWeights(self.loss, last)
        self.rows: list[dict[str, float]] = []

        def step(engine: Any, batch: list[dict[str, str]]) -> list[dict[str, float]]:
            self.loss.weights = torch.tensor([table[item["case"]] * engine.state.epoch for item in batch])
            return [{"loss": 0.0}] * len(batch)

        self.trainer = fake_trainer(epochs, [self.handler], step, [items(names) for names in batches])
        self.trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: self.rows.append(dict(engine.state.metrics)))


def test_means_over_the_last_weights_of_each_case() -> None:
    # epochs 1 to 3; c is in every batch, so its last two weights are both of epoch 3
    run = Weighing({"a": 0.5, "b": 1.0, "c": 2.0}, ["ac", "bc"], epochs=3, last=2)
    run.trainer.run()
    assert run.handler.means() == {"a": 0.5 * 2.5, "b": 2.5, "c": 6.0}


def test_what_is_published_is_the_epochs() -> None:
    # eleven cases of the weights 0, 1, .., 10, times the epoch: a tenth, a half and nine tenths of the way
    run = Weighing({name: float(n) for n, name in enumerate("abcdefghijk")}, ["abcdefg", "hijk"], epochs=2)
    run.trainer.run()
    names = [f"label_weight/{name}" for name in ("lowest tenth", "median", "highest tenth")]
    assert run.rows == [dict(zip(names, values, strict=True)) for values in ([1.0, 5.0, 9.0], [2.0, 10.0, 18.0])]


def test_a_case_that_a_loader_left_out_keeps_its_last_weights() -> None:
    first, rest = (Weighing({"a": 0.5, "b": 1.0}, [names], epochs) for names, epochs in (("ab", 1), ("b", 2)))
    first.trainer.run()
    rest.handler.load_state_dict(first.handler.state_dict())
    rest.trainer.state.epoch, rest.trainer.state.iteration = 1, 1
    rest.trainer.run()
    assert rest.handler.means() == {"a": 0.5, "b": 1.5}


def test_resumed_it_goes_on() -> None:
    table = {"a": 0.5, "b": 1.0}
    whole, first, rest = (Weighing(table, ["ab"], epochs, last=2) for epochs in (3, 1, 3))
    whole.trainer.run()
    first.trainer.run()
    rest.handler.load_state_dict(first.handler.state_dict())
    rest.trainer.state.epoch, rest.trainer.state.iteration = 1, 1
    rest.trainer.run()
    assert rest.handler.state_dict() == whole.handler.state_dict() == {"seen": {"a": [1.0, 1.5], "b": [2.0, 3.0]}}


def test_an_epoch_that_did_not_end_leaves_nothing() -> None:
    run = Weighing({"a": 0.5, "b": 1.0}, ["ab"], epochs=2)
    run.trainer.add_event_handler("ITERATION_COMPLETED", stop_in_epoch_2)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        run.trainer.run()
    assert run.handler.means() == {"a": 0.5, "b": 1.0}


def stop_in_epoch_2(engine: Any) -> None:
    if engine.state.epoch == 2:
        raise RuntimeError("stopped by the test")


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="at least, got last=0"):
        CaseWeights(SimpleNamespace(weights=torch.empty(0)), last=0)
    loss = SimpleNamespace(weights=torch.ones(3))
    trainer = fake_trainer(1, [CaseWeights(loss)], lambda engine, batch: [{"loss": 0.0}] * 2, [items("ab")])
    with pytest.raises(ValueError, match="gave 3 weights for a batch of 2 items"):
        trainer.run()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_know_all_cases() -> None:
    means, published = run_on_two(weights_of_share)[0]
    assert means == {"a": 0.5, "b": 1.0, "c": 1.5, "d": 4.0}
    assert run_on_two(weights_of_share)[1] == (means, published)
    assert published["label_weight/median"] == 1.25
