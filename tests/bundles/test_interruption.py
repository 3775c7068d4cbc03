"""A training killed at any moment and run again ends as the uninterrupted one, bit for bit."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from running_bundles import run, start, training_command, wait_for

from monai_noisylabel.data import LabelStore

pytestmark = pytest.mark.bundle

ARGUMENTS = ("--max_epochs", "6", "--cleansing#interval", "1", "--cleansing#min_dice", "0.01")
ARGUMENTS += ("--noise", "{'model':'mixed','alpha':0.7,'beta':3}")


def outcome(folder: Path) -> dict[str, object]:
    """Everything a run decides: weights, numbers, labels of every round."""
    store = LabelStore(folder / "models" / "label_store")
    store.verify()
    summary = json.loads((folder / "eval" / "summary.json").read_text())
    labels = {}
    for number in range(1, store.round + 1):
        for case in sorted(store.record(number)["cases"]):
            label = store.read(case, number)
            labels[f"{number}:{case}"] = None if label is None else hashlib.sha256(label.tobytes()).hexdigest()
    weights = {
        name: [value.numpy().tobytes() for value in torch.load(folder / "models" / name, weights_only=True).values()]
        for name in ("model.pt", "model_final.pt")
    }
    return {
        "weights": weights,
        "metrics": (folder / "eval" / "metrics.csv").read_text(),
        "test": summary["test_dice"],
        "rounds": summary["rounds"],
        "ranking": (folder / "eval" / "labels.csv").read_text(),
        "labels": labels,
    }


def checksums(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.nii.gz"))}


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = run(training_command("self_cleansing", folder, phantom, *ARGUMENTS))
    assert result.returncode == 0, result.stderr[-2000:]
    return outcome(folder)


@pytest.mark.slow
def test_killed_five_times_at_random_moments(uninterrupted: dict[str, object], phantom: Path, tmp_path: Path) -> None:
    originals = checksums(phantom)
    arguments = training_command("self_cleansing", tmp_path, phantom, *ARGUMENTS)
    moments = random.Random(0)
    for _ in range(5):
        process = start(arguments)
        wait_for(tmp_path / "models" / "training_state.pt", process)
        time.sleep(moments.uniform(0.0, 12.0))
        process.kill()
        process.communicate()
    assert run(arguments).returncode == 0
    assert outcome(tmp_path) == uninterrupted
    assert checksums(phantom) == originals


def test_killed_inside_the_commit_of_a_round(uninterrupted: dict[str, object], phantom: Path, tmp_path: Path) -> None:
    """Killed when the first round is staged or just visible, before any checkpoint knows of it."""
    arguments = training_command("self_cleansing", tmp_path, phantom, *ARGUMENTS)
    process = start(arguments)
    wait_for(tmp_path / "models" / "label_store" / "staging", process)
    process.kill()
    process.communicate()
    assert run(arguments).returncode == 0
    assert outcome(tmp_path) == uninterrupted


def test_killed_between_the_round_and_the_checkpoint(
    uninterrupted: dict[str, object], phantom: Path, tmp_path: Path
) -> None:
    """The store is one round ahead of the checkpoint; the resumed run drops that round and makes it again."""
    arguments = training_command("self_cleansing", tmp_path, phantom, *ARGUMENTS)
    process = start(arguments)
    wait_for(tmp_path / "models" / "label_store" / "rounds" / "0002", process)
    process.kill()
    process.communicate()
    assert run(arguments).returncode == 0
    assert outcome(tmp_path) == uninterrupted


def test_interrupt_ends_cleanly_and_goes_on(uninterrupted: dict[str, object], phantom: Path, tmp_path: Path) -> None:
    arguments = training_command("self_cleansing", tmp_path, phantom, *ARGUMENTS)
    process = start(arguments)
    wait_for(tmp_path / "models" / "training_state.pt", process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130, printed[-2000:]
    assert "run the same command again to go on" in printed
    assert "Traceback" not in printed
    assert run(arguments).returncode == 0
    assert outcome(tmp_path) == uninterrupted
