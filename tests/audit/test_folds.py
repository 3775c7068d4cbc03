"""Folds of a bundle: who is in them, which commands are run, and what is not done again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from dataset_files import manifest, write_ct_dataset
from running_bundles import REPOSITORY

import monai_noisylabel.audit.folds as module
from monai_noisylabel.audit.folds import BundleFolds, fold_manifests, predict_by_folds
from monai_noisylabel.data import DatasetSpec, load_dataset

BASELINE = REPOSITORY / "bundles" / "baseline"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    write_ct_dataset(tmp_path / "data", cases=16)
    splits = {"order": "sorted", "train": {}, "val": {"count": 1}, "test": {"count": 1}}
    return load_dataset(manifest(splits=splits, patient="c?(\\w)\\w?"), tmp_path / "data")


def test_every_case_is_held_out_once_and_no_patient_is_on_both_sides(spec: DatasetSpec) -> None:
    made = fold_manifests(spec, spec.train, 2, seed=0)
    held_out: list[str] = []
    for fold in made:
        parts = {name: fold.splits.rule(name).cases or [] for name in ("train", "val", "test")}  # type: ignore[arg-type]
        assert sorted(case for cases in parts.values() for case in cases) == sorted(i["case"] for i in spec.train)
        patients = {name: {fold.patient_of(case) for case in cases} for name, cases in parts.items()}
        assert not patients["test"] & (patients["train"] | patients["val"])
        assert not patients["train"] & patients["val"]
        assert all(patients.values())
        held_out += parts["test"]
    assert sorted(held_out) == sorted(item["case"] for item in spec.train)
    assert [fold.name for fold in made] == ["made_up_fold1of2", "made_up_fold2of2"]


def test_too_few_patients(spec: DatasetSpec) -> None:
    with pytest.raises(ValueError, match="leaves one patient to train on"):
        fold_manifests(spec, [item for item in spec.train if item["patient"] in ("3", "4")], 2, seed=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_epoch=2", "no option 'max_epoch'; did you mean max_epochs"),
        ("max_epochs", "as name=value"),
        ("noise=none", "sets noise itself"),
        ("manifest=x", "sets manifest itself"),
    ],
)
def test_options_that_cannot_be_passed_on(option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BundleFolds(BASELINE, overrides=(option,))


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a folder with configs/train"):
        BundleFolds(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no configs/inference\.json, so it cannot predict"):
        BundleFolds(tmp_path)


def test_a_shipped_bundle_by_its_name() -> None:
    assert (BundleFolds("baseline").folder / "configs/train.json").read_bytes() == (
        BASELINE / "configs/train.json"
    ).read_bytes()
    assert BundleFolds("baseline").as_dict() == BundleFolds(BASELINE).as_dict()


def _options(command: list[str]) -> dict[str, str]:
    assert command[:4] == [sys.executable, "-m", "monai.bundle", "run"]
    return {name.removeprefix("--"): value for name, value in zip(command[4::2], command[5::2], strict=True)}


def test_commands_and_what_is_not_run_again(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], log: Path, title: str, report: Any) -> None:
        commands.append(command)
        if "predict" in title:
            options = _options(command)
            content = json.loads(Path(options["manifest"]).read_text())
            for case in content["splits"]["test"]["cases"]:
                path = Path(options["output_dir"]) / f"{case}.npz"
                path.parent.mkdir(exist_ok=True)
                path.touch()

    monkeypatch.setattr(module, "_run", run)
    how = BundleFolds(BASELINE, 2, ("max_epochs=3", "network_def#channels=[4,4,8,8]", "patch_size=[8,8,4]"))
    out = tmp_path / "out"
    folder = predict_by_folds(spec, spec.train, how, out, lambda line: None)
    assert folder == out / "probabilities"
    assert len(list(folder.iterdir())) == len(spec.train)
    training, prediction = _options(commands[0]), _options(commands[1])
    assert len(commands) == 4
    for options in (training, prediction):
        assert options["dataset_dir"] == str(tmp_path / "data")
        assert options["manifest"] == str(out / "folds/fold1/manifest.json")
        assert options["ckpt_dir"] == str(out / "folds/fold1/models")
        assert options["network_def#channels"] == "[4,4,8,8]"
        assert options["patch_size"] == "[8,8,4]"
        assert options["classes"] == "['liver', 'tumour']"
    assert (training["noise"], training["max_epochs"]) == ("none", "3")
    assert not {"noise", "max_epochs"} & set(prediction)
    assert prediction["config_file"] == str(
        [str(BASELINE / "configs/inference.json"), str(out / "folds/fold1/predict.json")]
    )
    predict_by_folds(spec, spec.train, how, out, lambda line: None)
    assert len(commands) == 4
    next(iter(folder.iterdir())).unlink()  # one prediction is lost: its fold predicts again, and does not train
    predict_by_folds(spec, spec.train, how, out, lambda line: None)
    assert len(commands) == 5


def test_a_command_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    module._run([sys.executable, "-c", "print('fine')"], log, "fold 1", lines.append)
    assert lines[0] == "fold 1"
    assert log.read_text() == "fine\n"
    code = "import sys; print('no memory left'); sys.exit(3)"
    with pytest.raises(RuntimeError, match=r"fold 1 failed with exit code 3[\s\S]*no memory left"):
        module._run([sys.executable, "-c", code], log, "fold 1", lines.append)
