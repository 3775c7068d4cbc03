"""What makes a comparison void is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_files import manifest, write_ct_dataset
from monai.transforms import Compose, Identityd

from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.study.honesty import DishonestError, refuse_dishonest_data, refuse_noisy_test
from monai_noisylabel.transforms import SimulateLabelNoised


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    write_ct_dataset(tmp_path, cases=6)
    return load_dataset(manifest(), tmp_path)


def test_a_good_dataset_passes(spec: DatasetSpec) -> None:
    refuse_dishonest_data(spec)


def test_a_patient_that_the_manifest_puts_into_two_splits(tmp_path: Path) -> None:
    write_ct_dataset(tmp_path, cases=6)
    for kind in ("images", "labels"):  # a second case of the patient of c0
        (tmp_path / kind / "c0b.nii.gz").write_bytes((tmp_path / kind / "c0.nii.gz").read_bytes())
    rules = {"train": {"cases": ["c0", "c1", "c2"]}, "val": {"cases": ["c3"]}, "test": {"cases": ["c4", "c0b"]}}
    refuse_dishonest_data(load_dataset(manifest(splits=rules), tmp_path))
    with pytest.raises(DishonestError, match=r"1 cases are of patients that are in two splits \(c0: left out of train"):
        refuse_dishonest_data(load_dataset(manifest(splits=rules, patient=r"(c\d)b?"), tmp_path))


def test_a_patient_in_the_items_of_two_splits(spec: DatasetSpec) -> None:
    shared = [{**spec.test[0], "patient": spec.train[0]["patient"]}]
    with pytest.raises(DishonestError, match=f"patient {spec.train[0]['patient']} is in train and in test"):
        refuse_dishonest_data(replace(spec, test=shared))


def _record(spec: DatasetSpec, case: str, dice: float) -> None:
    line = {"case": case, "dice": {"1": dice, "2": 1.0}}
    (spec.dataset_dir / "records.jsonl").write_text(json.dumps(line) + "\n")


def test_simulated_test_labels(spec: DatasetSpec) -> None:
    test, train = spec.test[0]["case"], spec.train[0]["case"]
    _record(spec, train, 0.5)
    refuse_dishonest_data(spec)
    _record(spec, test, 1.0)
    refuse_dishonest_data(spec)
    _record(spec, test, 0.5)
    with pytest.raises(DishonestError, match=f"1 test labels have simulated noise, as '{test}'"):
        refuse_dishonest_data(spec)


def test_simulated_slices_of_a_test_volume(spec: DatasetSpec) -> None:
    volume = [{**item, "volume": item["case"], "case": f"{item['case']}/003"} for item in spec.test]
    _record(spec, f"{spec.test[0]['case']}/007", 0.5)
    with pytest.raises(DishonestError, match="1 test labels have simulated noise"):
        refuse_dishonest_data(replace(spec, test=volume))


def test_a_bundle_that_changes_its_test_labels() -> None:
    noisy = SimulateLabelNoised("label", "missing", seed=0, num_classes=2, multi_label=False)
    refuse_noisy_test(Compose([Identityd("label")]))
    with pytest.raises(DishonestError, match="pass through SimulateLabelNoised"):
        refuse_noisy_test(Compose([Identityd("label"), Compose([noisy])]))
    with pytest.raises(DishonestError, match="pass through SimulateLabelNoised"):
        refuse_noisy_test(noisy)
