"""What tools around MONAI Bundle ask of a bundle, without training it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from running_bundles import BUNDLES, REPOSITORY, training_workflow

OWN_NETWORK = ("clcs",)
"""Bundles whose prediction is that of several networks together: what they train is also what they save and run."""
SCHEMA = REPOSITORY / "tests" / "reference" / "bundle_metadata_schema.json"

pytestmark = [pytest.mark.bundle, pytest.mark.parametrize("bundle", BUNDLES)]


def read(bundle: str, name: str) -> dict[str, Any]:
    return json.loads((REPOSITORY / "bundles" / bundle / "configs" / name).read_text())


def test_train_workflow_has_every_property(bundle: str, phantom: Path, tmp_path: Path) -> None:
    workflow = training_workflow(bundle, tmp_path, phantom)
    assert workflow.check_properties() == []
    assert type(workflow.trainer).__name__ == "SupervisedTrainer"
    assert workflow.val_interval == 2


def test_inference_workflow_has_every_property(bundle: str, phantom: Path) -> None:
    root = REPOSITORY / "bundles" / bundle
    config = str(root / "configs" / "inference.json")
    workflow = ConfigWorkflow(config, workflow_type="infer", bundle_root=str(root), dataset_dir=str(phantom))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_metadata_fits_the_schema(bundle: str, tmp_path: Path) -> None:
    placed = tmp_path / "schema.json"
    placed.write_text(SCHEMA.read_text())
    meta = REPOSITORY / "bundles" / bundle / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(placed), create_dir=False)


def test_schema_refuses_metadata_without_a_version(bundle: str) -> None:
    metadata = read(bundle, "metadata.json")
    del metadata["version"]
    with pytest.raises(jsonschema.ValidationError, match="'version' is a required property"):
        jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))


def test_network_fits_the_metadata(bundle: str) -> None:
    configs = REPOSITORY / "bundles" / bundle / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
        n=1,
        p=1,
        any=32,
    )


def test_version_is_in_the_changelog_and_folder_has_a_licence(bundle: str) -> None:
    metadata = read(bundle, "metadata.json")
    assert metadata["version"] in metadata["changelog"]
    assert "Apache License" in (REPOSITORY / "bundles" / bundle / "LICENSE").read_text()


@pytest.mark.parametrize(("cases", "dropped"), [(6, False), (12, True)])
def test_a_process_drops_no_batch_that_is_its_only_one(bundle: str, cases: int, dropped: bool) -> None:
    sampler = {"_target_": "DistributedSampler", "dataset": list(range(cases)), "num_replicas": 2, "rank": 0}
    loader = {"drop_last": read(bundle, "multi_gpu_train.json")["train#dataloader#drop_last"]}
    parser = ConfigParser({"batch_size": 4, "train": {"sampler": sampler, "dataloader": loader}})
    assert parser.get_parsed_content("train#dataloader#drop_last") is dropped


def test_components_are_named_in_full(bundle: str) -> None:
    """A short name may silently mean a class of MONAI; only MONAI's own are written short."""

    def targets(node: Any) -> list[str]:
        if isinstance(node, dict):
            found = [node["_target_"]] if "_target_" in node else []
            return found + [name for value in node.values() for name in targets(value)]
        return [name for value in node for name in targets(value)] if isinstance(node, list) else []

    import monai.data
    import monai.engines
    import monai.handlers
    import monai.inferers
    import monai.transforms

    spaces = (monai.data, monai.engines, monai.handlers, monai.inferers, monai.transforms)
    for config in ("train.json", "inference.json", "multi_gpu_train.json"):
        for name in targets(read(bundle, config)):
            assert "." in name or any(hasattr(space, name) for space in spaces), (config, name)


def test_difference_from_the_baseline_is_what_the_docs_list(bundle: str) -> None:
    ours, base = read(bundle, "train.json"), read("baseline", "train.json")
    text = (REPOSITORY / "bundles" / bundle / "docs" / "README.md").read_text()
    section = re.search(r"## What differs from the baseline\n(.*?)(?=\n## |\Z)", text, re.DOTALL)
    listed = set(re.findall(r"^- `([^`]+)`", section.group(1), re.MULTILINE)) if section else set()
    assert different_keys(ours, base) == listed


def different_keys(ours: dict[str, Any], base: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of the keys whose value differs, descending into plain dictionaries that both have."""
    keys: set[str] = set()
    for name in sorted({*ours, *base}):
        left, right = ours.get(name), base.get(name)
        if left == right or name in ("bundle_root", "method"):
            continue
        plain = isinstance(left, dict) and isinstance(right, dict) and "_target_" not in left
        keys |= different_keys(left, right, f"{prefix}{name}.") if plain else {prefix + name}
    return keys


@pytest.mark.parametrize("name", ["inference.json", "evaluate.json"])
def test_evaluation_and_inference_are_the_baselines(bundle: str, name: str) -> None:
    ours, expected = ({**read(which, name), "bundle_root": None} for which in (bundle, "baseline"))
    if bundle in OWN_NETWORK and name == "inference.json":
        expected["network_def"] = read(bundle, "train.json")["network_def"]
        assert expected["network_def"] != read("baseline", name)["network_def"]
    assert ours == expected


def test_checkpoint_is_a_plain_state_dict_of_the_network(bundle: str, tmp_path: Path) -> None:
    """What MONAI Label and inference load needs nothing but the network's class."""
    from monai_noisylabel.handlers import load_weights
    from monai_noisylabel.networks import SelfCleansingNet

    network = SelfCleansingNet(2, 1, 3)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    load_weights(torch.nn.DataParallel(network), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="train the bundle first"):
        load_weights(network, tmp_path / "none.pt")
