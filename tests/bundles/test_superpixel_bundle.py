"""The bundle superpixel: rounds and their record, interruption, any kind of data, two processes."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_files import isic2017, jsrt
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from running_bundles import train_on_two, training_workflow

from monai_noisylabel.data import LabelStore, make_phantom
from monai_noisylabel.handlers import SuperpixelRefinement
from monai_noisylabel.losses import SuperpixelLoss
from monai_noisylabel.networks import AllPeers

pytestmark = pytest.mark.bundle

SMALL: dict[str, Any] = {"network_def#channels": [4, 4, 8, 8], "val_interval": 2}
ITERATING: dict[str, Any] = {
    **SMALL,
    "max_epochs": 7,
    "noise": {"model": "mixed", "alpha": 0.7, "beta": 3},
    "selection#keep_rates": "oracle",
    "selection#ramp_epochs": 1,
    "refinement#patience": 1,
    "refinement#max_stage": None,
    "refinement#max_rounds": None,
    "refinement#min_dice": 0.0,
}


GAP_SUM = SuperpixelLoss.gap_sum
GAPS = [0.0, 1.0, 0.9, 0.5, 0.6, 0.4, 0.3]
"""Of seven epochs: rounds after the third one and the sixth one. Real ones rise as long as a network learns."""


@pytest.fixture(scope="module", autouse=True)
def _gaps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperpixelLoss, "gap_sum", property(lambda loss: (GAPS[loss.epoch], int(loss.epoch > 0))))
        yield


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything a run decides: weights of both networks, numbers, labels of every round."""
    store = LabelStore(folder / "models" / "label_store")
    store.verify()
    labels = {}
    for number in range(1, store.round + 1):
        for case in sorted(store.record(number)["cases"]):
            label = store.read(case, number)
            assert label is not None
            labels[f"{number}:{case}"] = hashlib.sha256(label.tobytes()).hexdigest()
    state = torch.load(folder / "models" / "training_state.pt", weights_only=True)["objects"]
    summary = json.loads((folder / "eval" / "summary.json").read_text())
    return {
        "networks": [value.numpy().tobytes() for value in state["network"].values()],
        "refine": state["refine"],
        "metrics": (folder / "eval" / "metrics.csv").read_text(),
        "summary": {name: summary[name] for name in ("test_dice", "training_labels", "published", "rounds")},
        "labels": labels,
    }


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    training_workflow("superpixel", folder, phantom, **ITERATING).run()
    return folder, outcome(folder)


def test_rounds_and_their_record(uninterrupted: tuple[Path, dict[str, Any]]) -> None:
    folder, found = uninterrupted
    rounds = found["summary"]["rounds"]
    assert [entry["epoch"] for entry in rounds] == [3, 6]
    assert [entry["gaps"] for entry in rounds] == [GAPS[1:3], GAPS[3:6]]
    rows = list(csv.DictReader((folder / "eval" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows if row["labels_relabel"]] == [str(entry["epoch"]) for entry in rounds]
    labels = found["summary"]["training_labels"]
    quality = [entry["dice_to_clean"] for entry in rounds]
    assert quality[0]["before"] == pytest.approx(labels["given_to_clean"])
    for earlier, later in itertools.pairwise(quality):
        assert earlier["after"] == pytest.approx(later["before"])
    assert quality[-1]["after"] == pytest.approx(labels["cleansed_to_clean"])
    assert quality[0]["after"] != quality[0]["before"]
    # keep rates of the stage that each round ended, then raised by a tenth up to the cap
    rates = [np.array(entry["keep_rates"]) for entry in rounds]
    assert rates[1] == pytest.approx(np.maximum(rates[0], np.minimum(1.1 * rates[0], 0.95)))
    first = [float(rows[0][f"keep_rate/{name}"]) for name in ("background", "liver", "tumour")]
    assert first == pytest.approx(rates[0])
    assert [row["superpixel_gap"] for row in rows] == ["", *map(str, GAPS[1:])]
    assert len(list((folder / "models" / "superpixels").glob("*.npy"))) == labels["cases"]


def interrupt_in_epoch(workflow: ConfigWorkflow, number: int, event: str) -> None:
    def stop() -> None:
        if workflow.trainer.state.epoch == number:
            raise KeyboardInterrupt

    workflow.trainer.add_event_handler(event, stop)


def test_interrupted_within_and_between_iterations(
    uninterrupted: tuple[Path, dict[str, Any]], phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the third epoch; when the second round is on disk and no checkpoint knows of it; and in the last epoch."""
    interrupted = training_workflow("superpixel", tmp_path, phantom, **ITERATING)
    interrupt_in_epoch(interrupted, 3, "ITERATION_COMPLETED")
    with pytest.raises(SystemExit):
        interrupted.run()
    commit = LabelStore.commit

    def commit_and_fall(store: LabelStore, *args: Any, **kwargs: Any) -> int:
        number = commit(store, *args, **kwargs)
        if number == 2:
            raise KeyboardInterrupt
        return number

    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "commit", commit_and_fall)
        with pytest.raises(SystemExit):
            training_workflow("superpixel", tmp_path, phantom, **ITERATING).run()
    assert LabelStore(tmp_path / "models" / "label_store").round == 2
    interrupted = training_workflow("superpixel", tmp_path, phantom, **ITERATING)
    interrupt_in_epoch(interrupted, 7, "EPOCH_STARTED")
    with pytest.raises(SystemExit):
        interrupted.run()
    training_workflow("superpixel", tmp_path, phantom, **ITERATING).run()
    assert outcome(tmp_path) == uninterrupted[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"refinement#restart": True}, {"refinement#at_end": "stop"}, {"selection#variant": "released"}],
    ids=str,
)
def test_other_ways_to_iterate_go_on_too(settings: dict[str, Any], phantom: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training_workflow("superpixel", whole, phantom, **ITERATING, **settings).run()
    for epoch in (3, 5):
        interrupted = training_workflow("superpixel", parts, phantom, **ITERATING, **settings)
        interrupt_in_epoch(interrupted, epoch, "EPOCH_STARTED")
        with pytest.raises(SystemExit):
            interrupted.run()
    training_workflow("superpixel", parts, phantom, **ITERATING, **settings).run()
    assert outcome(parts) == outcome(whole)
    assert outcome(whole)["labels"]


def test_parts_know_each_other(phantom: Path, tmp_path: Path) -> None:
    settings = {"selection#variant": "released", "refinement#cap": [0.9, 0.95, 0.8], "superpixels#compactness": 3}
    workflow = training_workflow("superpixel", tmp_path, phantom, **SMALL, **settings, augment=True)
    loss, refine = part(workflow, "loss"), part(workflow, "refine")
    assert type(refine) is SuperpixelRefinement
    assert workflow.trainer.has_event_handler(refine, Events.EPOCH_COMPLETED)
    assert workflow.trainer.loss_function is loss is refine.loss is part(workflow, "sweep#relabel").loss
    assert (loss.num_classes, loss.variant, loss.sigmoid) == (3, "released", False)
    assert refine.cap.tolist() == pytest.approx([0.9, 0.95, 0.8])
    network = refine.sweep.network
    assert type(network) is AllPeers
    assert network.peers is workflow.trainer.network
    assert part(workflow, "train#superpixels").superpixels.settings["compactness"] == 3
    batch = next(iter(part(workflow, "train#dataloader")))
    assert batch["label"].shape[1] == 2  # the label in use, and the superpixels
    assert torch.equal(batch["label"][:, 1:], batch["superpixels"])
    assert torch.equal(batch["superpixels"], batch["superpixels"].round())  # moved by the nearest neighbour
    assert set(batch["label"][:, 0].unique().tolist()) <= {0, 1, 2}
    assert (batch["superpixels"] == 0).any()  # padding of what was turned


def test_volumes_in_patches_with_augmentation(phantom: Path, tmp_path: Path) -> None:
    settings = {"spatial_dims": 3, "size": [32, 32, 8], "patch_size": [16, 16, 8], "augment": True, "batch_size": 2}
    settings |= {**ITERATING, "max_epochs": 4}
    training_workflow("superpixel", tmp_path, phantom, **settings).run()
    assert outcome(tmp_path)["summary"]["rounds"]


@pytest.mark.parametrize(("name", "write"), [("isic2017", isic2017), ("jsrt", jsrt)])
def test_colour_and_overlapping_structures(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    """Photographs of one structure; radiographs of three that overlap, each with its own selection."""
    data = tmp_path / name
    write(data)
    settings = {**ITERATING, "manifest": name, "size": [32, 32], "max_epochs": 4, "batch_size": 2}
    settings |= {"selection#keep_rates": 0.5}  # so that half of the structures' voxels are doubted, too
    training_workflow("superpixel", tmp_path, data, **settings).run()
    found = outcome(tmp_path)
    assert found["summary"]["rounds"]
    store = LabelStore(tmp_path / "models" / "label_store")
    changed = {case for number in range(1, store.round + 1) for case in store.record(number)["cases"]}
    assert changed
    structures = 3 if name == "jsrt" else 1
    for case in changed:
        label = store.read(case)
        assert label is not None
        assert label.shape == (structures, 32, 32)
        assert set(np.unique(label)) <= {0, 1}
    published = [key for key in found["summary"]["published"] if key.startswith("keep_rate/")]
    assert len(published) == 2 * structures


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_refine_as_one(tmp_path: Path) -> None:
    """With a learning rate of 0, and shares that hold in every image, both have the same gaps and the same round.

    The gaps of the second run, in processes of its own, are those of its batches; the first one makes its own here.
    """
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings = {**ITERATING, "spatial_dims": 3, "size": [32, 32, 8], "network_def#norm": "instance", "max_epochs": 3}
    settings |= {"learning_rate": 0.0, "selection#scope": "image", "refinement#max_stage": 1}
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperpixelLoss, "gap_sum", GAP_SUM)
        training_workflow("superpixel", one, phantom, **settings, batch_size=6).run()
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    train_on_two("superpixel", two, phantom, *flags[2:], "--batch_size", "3")
    single, double_ = outcome(one), outcome(two)
    assert single["labels"] == double_["labels"]
    assert len(single["summary"]["rounds"]) == len(double_["summary"]["rounds"]) == 1
    for ours, theirs in zip(single["summary"]["rounds"], double_["summary"]["rounds"], strict=True):
        assert ours["gaps"] == pytest.approx(theirs["gaps"], rel=1e-4)
        assert ours["dice_to_clean"] == theirs["dice_to_clean"]
        assert ours["voxels_relabelled"] == theirs["voxels_relabelled"] > 0
