"""The bundles of peers: networks of their own, the first one alone where it counts, keep rates, interruption, DDP."""

from __future__ import annotations

import csv
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from running_bundles import (
    outcome,
    run,
    run_until_interrupted,
    start,
    train_on_two,
    training_command,
    training_workflow,
    wait_for,
)

from monai_noisylabel.data import make_phantom
from monai_noisylabel.networks import PeerNetworks

pytestmark = pytest.mark.bundle

PEERS = {"co_teaching": 2, "jocor": 2, "tri_network": 3}
SHORT: dict[str, Any] = {
    "network_def#channels": [4, 4, 8, 8],
    "max_epochs": 4,
    "val_interval": 1,
    "noise": {"model": "missing", "alpha": 0.5},
    "selection#warm_up": 1,
    "selection#ramp_epochs": 2,
}


def part(workflow: ConfigWorkflow, name: str) -> Any:
    return workflow.parser.get_parsed_content(name)


def flags(settings: dict[str, Any]) -> list[str]:
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


@pytest.mark.parametrize("bundle", PEERS)
def test_peers_have_one_architecture_and_weights_of_their_own(bundle: str, phantom: Path, tmp_path: Path) -> None:
    workflow = training_workflow(bundle, tmp_path, phantom, **SHORT)
    peers = workflow.trainer.network
    assert type(peers) is PeerNetworks
    assert len(peers.networks) == PEERS[bundle] == part(workflow, "loss").peers
    first = part(workflow, "network_def")
    assert peers.networks[0] is first
    for one, other in itertools.combinations(peers.networks, 2):
        assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]
        assert all(
            not torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True) if p.ndim > 1
        )
    assert next(first.parameters()).shape[0] == 4  # of SHORT
    optimised = {id(p) for group in part(workflow, "optimizer").param_groups for p in group["params"]}
    assert optimised == {id(p) for p in peers.parameters()}
    for evaluator in ("validate#evaluator", "test#evaluator", "sweep#evaluator"):
        assert part(workflow, evaluator).network is first


def test_settings_of_the_selection_reach_the_loss(phantom: Path, tmp_path: Path) -> None:
    settings = {"selection#scope": "image", "selection#keep_rates": 0.5}
    jocor = training_workflow("jocor", tmp_path / "a", phantom, **SHORT, **settings, **{"selection#lam": 0.1})
    loss = part(jocor, "loss")
    assert (loss.lam, loss.scope, loss.ramp_epochs, loss.num_classes) == (0.1, "image", 2, 3)
    tri = training_workflow("tri_network", tmp_path / "b", phantom, **SHORT, **{"selection#rule": "intersection"})
    assert part(tri, "loss").rule == "intersection"


def test_oracle_without_clean_labels_says_what_to_do(phantom: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "noise": "none", "selection#keep_rates": "oracle"}
    with pytest.raises(
        ValueError, match=r"need the clean label of every training case .* choose the source 'estimated'"
    ):
        training_workflow("jocor", tmp_path, phantom, **settings).trainer.run()


def test_an_interrupted_run_ends_as_the_uninterrupted_one(phantom: Path, tmp_path: Path) -> None:
    """Interrupted after two epochs, of which the first was the warm-up: the estimate counts to the end."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = training_workflow("jocor", whole, phantom, **SHORT)
    uninterrupted.run()
    assert part(uninterrupted, "loss").epoch == 3  # follows the training, from 0
    run_until_interrupted(training_workflow("jocor", parts, phantom, **SHORT), epoch=3)
    training_workflow("jocor", parts, phantom, **SHORT).run()
    assert outcome(parts, "network") == outcome(whole, "network")
    rows = list(csv.DictReader((whole / "eval" / "metrics.csv").open()))
    rates = [[float(row[f"keep_rate/{name}"]) for name in ("background", "liver", "tumour")] for row in rows]
    assert rates[0] == [1.0] * 3
    assert rates[1] == rates[2] == rates[3] != rates[0]
    saved = torch.load(whole / "models" / "model_final.pt", weights_only=True)
    baseline = training_workflow("baseline", tmp_path / "baseline", phantom, **{"network_def#channels": [4, 4, 8, 8]})
    part(baseline, "network").load_state_dict(saved)  # a plain state dict of one network


@pytest.mark.slow
def test_killed_three_times_at_random_moments(phantom: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = flags({name: value for name, value in SHORT.items() if name != "network_def#channels"})
    assert run(training_command("co_teaching", whole, phantom, *settings)).returncode == 0
    arguments = training_command("co_teaching", parts, phantom, *settings)
    moments = random.Random(0)
    for _ in range(3):
        process = start(arguments)
        wait_for(parts / "models" / "training_state.pt", process)
        time.sleep(moments.uniform(0.0, 6.0))
        process.kill()
        process.communicate()
    assert run(arguments).returncode == 0
    assert outcome(parts, "network") == outcome(whole, "network")


@pytest.mark.distributed
def test_two_processes_have_the_keep_rates_of_one(tmp_path: Path) -> None:
    """With a learning rate of 0 both have the same networks, of which they ask the same after the first epoch."""
    phantom = make_phantom(tmp_path / "set", cases=10, shape=(64, 64, 8), spacing=(5, 5, 20))
    settings = {"spatial_dims": 3, "size": [32, 32, 8], "network_def#norm": "instance", "max_epochs": 3}
    settings |= {"learning_rate": 0.0, "selection#warm_up": 1}
    one, two = tmp_path / "one", tmp_path / "two"
    training_workflow("jocor", one, phantom, **settings, batch_size=6, **{"network_def#channels": [4, 4, 8, 8]}).run()
    train_on_two("jocor", two, phantom, *flags(settings), "--batch_size", "3")
    published = [json.loads((folder / "eval" / "summary.json").read_text())["published"] for folder in (one, two)]
    assert published[0] == pytest.approx(published[1], rel=1e-3)
    assert len(set(published[0].values())) == 3
    weights = [torch.load(folder / "models" / "model_final.pt", weights_only=True) for folder in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in (weights[0] | weights[1]))
