"""The bundle confident_learning: teachers, sweep, student; interruption in each of them; any data; two processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dataset_files import jsrt
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from running_bundles import outcome, run_until_interrupted, train_on_two, training_workflow

from monai_noisylabel.data import LabelStore, make_phantom
from monai_noisylabel.handlers import ConfidentRelabel
from monai_noisylabel.networks import FoldNetworks

pytestmark = pytest.mark.bundle

SMALL: dict[str, Any] = {"network_def#channels": [4, 4, 8, 8], "val_interval": 1, "pruning#min_dice": 0.0}
SHORT: dict[str, Any] = {**SMALL, "max_epochs": 4, "learning_rate": 0.01}


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def stored(folder: Path) -> list[Any]:
    """Labels of every case that the round changes."""
    store = LabelStore(folder / "models" / "label_store")
    store.verify()
    assert store.round == 1
    return [(case, store.read(case, 1).tobytes()) for case in sorted(store.record(1)["cases"])]  # type: ignore[union-attr]


def everything(folder: Path) -> dict[str, Any]:
    rounds = json.loads((folder / "eval" / "summary.json").read_text())["rounds"]
    return {**outcome(folder, "network"), "rounds": rounds, "labels": stored(folder)}


def test_parts_know_each_other(phantom: Path, tmp_path: Path) -> None:
    settings = {"pruning#rule": "off_diagonal", "smoothing#epsilon": 0.5, "folds#epochs": 3, "augment": True}
    settings |= {"teachers": ["%network_def"] * 3}
    workflow = training_workflow("confident_learning", tmp_path, phantom, **SHORT, **settings)
    networks = workflow.trainer.network
    assert type(networks) is FoldNetworks
    assert networks.student is part(workflow, "network_def")
    members = [networks.student, *networks.teachers]
    first = [next(member.parameters()) for member in members]
    assert [len(weight) for weight in first] == [4] * 4  # of SMALL
    assert len({tuple(weight.flatten().tolist()) for weight in first}) == 4  # each its own initialisation
    optimised = {id(p) for group in part(workflow, "optimizer").param_groups for p in group["params"]}
    assert optimised == {id(p) for p in networks.parameters()}
    assert workflow.trainer.loss_function.epsilon == 0.5
    assert (part(workflow, "sweep#relabel").rule, part(workflow, "history").first_epoch) == ("off_diagonal", 4)
    batch = next(iter(part(workflow, "train#dataloader")))
    assert batch["label"].shape[1] == 2
    assert torch.equal(batch["label"][:, :1], batch["label"][:, 1:].to(batch["label"].dtype))  # no round yet
    assert set(batch["fold"].tolist()) <= {0, 1, 2}
    items = part(workflow, "train#dataset").data
    assert len({(item["patient"], item["fold"]) for item in items}) == len({item["patient"] for item in items})


def test_teachers_then_the_student(phantom: Path, tmp_path: Path) -> None:
    """Who learns when, what is reported, and of which epochs."""
    workflow = training_workflow("confident_learning", tmp_path, phantom, **SHORT)
    networks, fresh, learned = workflow.trainer.network, {}, []

    def weights() -> list[float]:
        return [float(sum(p.abs().sum() for p in net.parameters())) for net in (*networks.teachers, networks.student)]

    def started() -> None:
        fresh[workflow.trainer.state.epoch] = weights()

    def ended() -> None:
        pairs = zip(fresh[workflow.trainer.state.epoch], weights(), strict=True)
        learned.append([before != after for before, after in pairs])

    workflow.trainer.add_event_handler("EPOCH_STARTED", started)
    steps = len(part(workflow, "train#dataloader"))
    workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=steps), ended)
    workflow.run()
    assert learned == [[True, True, False]] * 2 + [[False, False, True]] * 2
    state = torch.load(tmp_path / "models" / "model_final.pt", weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in networks.student.state_dict().items())
    rows = list(csv.DictReader((tmp_path / "eval" / "metrics.csv").open()))
    assert [bool(row["held_out_dice"]) for row in rows] == [True, True, False, False]
    assert [bool(row["labels_relabel"]) for row in rows] == [False, True, False, False]
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["test_dice"]["b_model"]["epoch"] > 2
    student = [float(row["test_mean_dice"]) for row in rows[2:]]
    assert summary["test_dice"]["last_10_mean"] == pytest.approx(sum(student) / 2)
    names = ("background", "liver", "tumour")
    pairs = {f"given_to_true/{one} to {other}" for one in names for other in names}
    assert pairs <= set(summary["published"])
    entry = summary["rounds"][0]
    best = max(rows[:2], key=lambda row: float(row["held_out_dice"]))
    assert entry["teachers_of_epoch"] == int(best["epoch"])
    assert entry["dice_to_clean"]["before"] == pytest.approx(summary["training_labels"]["given_to_clean"])
    assert entry["dice_to_clean"]["after"] == pytest.approx(summary["training_labels"]["cleansed_to_clean"])
    assert summary["settings"]["folds"]["count"] == 2


def test_the_sweep_predicts_every_case_out_of_sample(phantom: Path, tmp_path: Path) -> None:
    workflow = training_workflow("confident_learning", tmp_path, phantom, **SHORT)
    folds = {item["case"]: item["fold"] for item in part(workflow, "train#dataset").data}
    teachers = part(workflow, "evaluated").teachers
    with torch.no_grad():
        for number, teacher in enumerate(teachers):
            for p in teacher.conv_2[-1].parameters():
                p.zero_()
            teacher.conv_2[-1].bias.copy_(torch.tensor([float(number), 5.0, -5.0]))  # says who it is
    found = {}
    predictions = part(workflow, "sweep#relabel").predictions
    add = predictions.add

    def noted(case: str, logits: torch.Tensor, *labels: Any) -> None:
        found[case] = float(logits[0].mean())
        add(case, logits, *labels)

    predictions.add = noted
    part(workflow, "sweep#evaluator").run()
    assert found == {case: float(fold) for case, fold in folds.items()}
    assert set(folds.values()) == {0, 1}


def test_interrupted_with_the_teachers_in_the_sweep_and_with_the_student(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training_workflow("confident_learning", whole, phantom, **SHORT).run()
    run_until_interrupted(training_workflow("confident_learning", parts, phantom, **SHORT), epoch=2)
    relabel = ConfidentRelabel._relabel
    seen: list[str] = []

    def relabel_and_fall(self: ConfidentRelabel, case: str) -> Any:
        seen.append(case)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return relabel(self, case)

    with monkeypatch.context() as patch:
        patch.setattr(ConfidentRelabel, "_relabel", relabel_and_fall)
        with pytest.raises(SystemExit):
            training_workflow("confident_learning", parts, phantom, **SHORT).run()
    commit = LabelStore.commit

    def commit_and_fall(store: LabelStore, *args: Any, **kwargs: Any) -> int:
        commit(store, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "commit", commit_and_fall)
        with pytest.raises(SystemExit):
            training_workflow("confident_learning", parts, phantom, **SHORT).run()
    assert not (parts / "models" / "model.pt").exists()  # no student yet
    run_until_interrupted(training_workflow("confident_learning", parts, phantom, **SHORT), epoch=4)
    training_workflow("confident_learning", parts, phantom, **SHORT).run()
    assert everything(parts) == everything(whole)
    assert everything(whole)["labels"]
    assert not (parts / "models" / "out_of_sample").exists()


def test_structures_that_overlap(tmp_path: Path) -> None:
    data = tmp_path / "jsrt"
    jsrt(data)
    settings = {**SHORT, "manifest": "jsrt", "size": [32, 32], "max_epochs": 2, "batch_size": 3, "noise": "missing"}
    training_workflow("confident_learning", tmp_path, data, **settings).run()
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    names = [name for structure in summary["classes"] for name in (f"no_{structure}", structure)]
    assert list(summary["rounds"][0]["joint"]) == names
    assert {f"found_wrong/{name}" for name in names} <= set(summary["published"])


def test_volumes_in_patches_with_three_folds(phantom: Path, tmp_path: Path) -> None:
    settings = {"spatial_dims": 3, "size": [32, 32, 8], "patch_size": [16, 16, 8], "augment": True, "batch_size": 2}
    settings |= {**SHORT, "max_epochs": 2, "teachers": ["%network_def"] * 3}
    training_workflow("confident_learning", tmp_path, phantom, **settings).run()
    entry = json.loads((tmp_path / "eval" / "summary.json").read_text())["rounds"][0]
    assert entry["samples"] == 4
    assert sum(sum(row.values()) for row in entry["joint"].values()) == 4 * 32 * 32 * 8


def test_a_run_too_short_for_both(phantom: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"max_epochs": 1}, "The teachers need at least 1 epoch"),
        ({"folds#epochs": 4}, "none is left for the student"),
    ):
        with pytest.raises(RuntimeError) as error:
            training_workflow("confident_learning", tmp_path, phantom, **{**SHORT, **settings}).run()
        assert message in str(error.value.__cause__)


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Six volumes, one step per epoch; each network's part of the batch is what the two processes have of it.

    With a learning rate of 0 the joint is that of the same networks, whoever counts which cases.
    """
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings: dict[str, Any] = {"spatial_dims": 3, "size": [32, 32, 8], "network_def#norm": "instance"}
    settings |= {**SHORT, "max_epochs": 2, "learning_rate": 0.0}
    one, two = tmp_path / "one", tmp_path / "two"
    training_workflow("confident_learning", one, phantom, **settings, batch_size=6).run()
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    train_on_two("confident_learning", two, phantom, *flags, "--batch_size", "3")
    rounds = [json.loads((folder / "eval" / "summary.json").read_text())["rounds"][0] for folder in (one, two)]
    assert rounds[0]["samples"] == rounds[1]["samples"] == 6
    assert rounds[0]["joint"] == rounds[1]["joint"]
    assert rounds[0]["found_wrong"] == rounds[1]["found_wrong"]
    assert stored(one) == stored(two)
    # and with steps: both processes go through both stages
    three = tmp_path / "three"
    flags[flags.index("--learning_rate") + 1] = "0.01"
    train_on_two("confident_learning", three, phantom, *flags, "--batch_size", "3")
    state = [torch.load(folder / "models" / "model_final.pt", weights_only=True) for folder in (two, three)]
    assert any(not torch.equal(value, state[1][name]) for name, value in state[0].items())
