"""What label cleansing costs: a round against an evaluation pass, and a whole training against plain training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator
from running_bundles import training_workflow

from monai_noisylabel.data import make_phantom
from monai_noisylabel.handlers import CaseDice, LabelCleansing

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "set", cases=20)


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_a_round_against_an_evaluation_pass(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Target: at most 1.5 times an evaluation pass over the same data, after some epochs of training."""
    made = training_workflow("self_cleansing", tmp_path, phantom, max_epochs=8)
    get = made.parser.get_parsed_content
    trainer = get("train#trainer")
    cleansing = next(handler for handler in get("train#handlers") if isinstance(handler, LabelCleansing))
    trainer.run()
    trainer.state.epoch, trainer.state.max_epochs = cleansing.warm_up, 1000
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=get("sweep#dataloader"),
        network=get("network"),
        inferer=get("inferer"),
        postprocessing=get("validate#postprocessing"),
        key_val_metric={"dice": CaseDice(get("data").classes, get("num_classes"))},
    )
    passes, rounds = [], []
    for _ in range(4):
        passes.append(seconds(evaluator.run))
        rounds.append(seconds(lambda: cleansing(trainer)))
    with capsys.disabled():
        print(
            f"\nround {min(rounds):.2f} s, evaluation pass {min(passes):.2f} s, ratio {min(rounds) / min(passes):.2f}"
        )


def test_a_training_against_plain_training(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Target: at most 1.3 times a baseline run of as many epochs, validation and test curves included in both."""
    spent: dict[str, float] = {}
    for repeat, bundle in enumerate(("baseline", "self_cleansing") * 2):
        folder = tmp_path / str(repeat)
        made = training_workflow(bundle, folder, phantom, max_epochs=10)
        taken = seconds(made.run)
        spent[bundle] = min(spent.get(bundle, taken), taken)
    ratio = spent["self_cleansing"] / spent["baseline"]
    with capsys.disabled():
        print(
            f"\nself_cleansing {spent['self_cleansing']:.1f} s, baseline {spent['baseline']:.1f} s, ratio {ratio:.2f}"
        )
