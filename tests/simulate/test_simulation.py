"""Nothing is lost or overwritten: interrupted runs go on, other folders and bad cases are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from simulated import digests, read_records, write_hearts

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.simulate import simulate_dataset

BOUNDARY = {"model": "boundary", "beta": 4, "alpha": 1.0}
MIXED = {"alpha": 0.7, "models": [{"model": "boundary", "beta": 4}, "missing", {"model": "relative_boundary"}]}
IN_MM = {"model": "boundary", "beta": 4, "unit": "mm", "alpha": 1.0}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; tests/simulate/test_contact_sheet.py looks at it."""
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)


class Interrupted(BaseException):
    """As KeyboardInterrupt: nothing in the library expects it."""


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_run_goes_on_and_ends_the_same(phantom: Path, tmp_path: Path, after: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    simulate_dataset("phantom_hcc", phantom, MIXED, whole, seed=1)

    def stop(done: int, total: int) -> None:
        if done == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate_dataset("phantom_hcc", phantom, MIXED, parts, seed=1, progress=stop)
    assert not (parts / "summary.json").exists()
    report = simulate_dataset("phantom_hcc", phantom, MIXED, parts, seed=1)
    assert (len(report.kept), len(report.written)) == (after, 3 - after)
    assert digests(parts) == digests(whole)


def test_a_run_killed_while_writing_goes_on(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    simulate_dataset("phantom_hcc", phantom, MIXED, whole, seed=1)
    replace = os.replace

    def killed(source: str, target: str) -> None:
        if str(target).endswith("liver_001.nii.gz"):
            raise Interrupted
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Interrupted):
            simulate_dataset("phantom_hcc", phantom, MIXED, parts, seed=1)
    assert "labels/liver_001.nii.gz" not in digests(parts)
    with (parts / "records.jsonl").open("a") as stream:
        stream.write('{"case": "liver_001/0')  # a line cut off
    simulate_dataset("phantom_hcc", phantom, MIXED, parts, seed=1)
    assert digests(parts) == digests(whole)


def test_a_second_run_writes_nothing(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_dataset("phantom_hcc", phantom, MIXED, tmp_path / "out")
    before = digests(tmp_path / "out")
    monkeypatch.setattr(module, "simulate_case", None)
    report = simulate_dataset("phantom_hcc", phantom, MIXED, tmp_path / "out")
    assert (report.written, len(report.kept)) == ([], 3)
    assert digests(tmp_path / "out") == before


def test_labels_that_changed_are_made_again(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "data")
    simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    before = digests(tmp_path / "out")
    (tmp_path / "out/labels/h0.nii").write_bytes(b"edited")
    (tmp_path / "out/labels/h1.nii").unlink()
    report = simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    assert (report.written, report.kept) == (["h0", "h1"], ["h2"])
    assert digests(tmp_path / "out") == before
    write_hearts(tmp_path / "data", ("RAS", "LPS", "RAS", "RAS", "RAS"))  # the third original has changed
    report = simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    assert (report.written, report.kept) == (["h2"], ["h0", "h1"])


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"recipe": MIXED}, {"spatial_dims": 2}, {"split": "all"}, {"classes": ["liver"]}],
)
def test_another_simulation_is_not_mixed_in(phantom: Path, tmp_path: Path, change: dict) -> None:
    settings = {"recipe": BOUNDARY, "spatial_dims": 3, "out_dir": tmp_path / "out"}
    simulate_dataset("phantom_hcc", phantom, **settings)
    before = digests(tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds another simulation"):
        simulate_dataset("phantom_hcc", phantom, **{**settings, **change})
    assert digests(tmp_path / "out") == before
    simulate_dataset("phantom_hcc", phantom, **{**settings, **change}, overwrite=True)
    simulate_dataset("phantom_hcc", phantom, **{**settings, "out_dir": tmp_path / "new", **change})
    assert digests(tmp_path / "out") == digests(tmp_path / "new")


def test_overwriting_leaves_no_label_of_the_former_simulation(phantom: Path, tmp_path: Path) -> None:
    simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", split="all")
    simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out/labels").iterdir())) == 3


def test_other_files_are_not_mixed_in(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match="holds something else; give another folder"):
        simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out")
    simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/thesis.txt").read_text() == "years"


def test_nothing_is_written_into_the_dataset(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "set/data")
    before = digests(tmp_path)
    for out in ("set/data", "set/data/new", "set"):
        with pytest.raises(ValueError, match="lie in each other"):
            simulate_dataset(made, tmp_path / "set/data", BOUNDARY, tmp_path / out)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels").symlink_to(tmp_path / "set/data/labels")
    report = simulate_dataset(made, tmp_path / "set/data", BOUNDARY, tmp_path / "out", overwrite=True)
    assert set(report.failed) == {"h0", "h1", "h2"}
    assert "leads into the dataset folder" in report.failed["h0"]
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before


def test_one_bad_case_does_not_stop_the_others(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = module.simulate_case

    def fails(items: list, *rest: object) -> list:
        if items[0]["volume"] == "liver_001":
            raise OSError("the disk has gone")
        return simulate(items, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "simulate_case", fails)
        report = simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", with_images=True)
    assert report.failed == {"liver_001": "OSError: the disk has gone"}
    assert len(report.written) == 2
    assert {line["volume"] for line in read_records(tmp_path / "out")} == set(report.written)
    assert json.loads((tmp_path / "out/summary.json").read_text())["failed"] == report.failed
    assert not (tmp_path / "out/images/liver_001.nii.gz").exists()
    report = simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "out", with_images=True)
    assert (report.failed, report.written, report.copied) == ({}, ["liver_001"], 1)
    simulate_dataset("phantom_hcc", phantom, BOUNDARY, tmp_path / "new", with_images=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "new")


def test_cases_that_the_check_leaves_out_are_reported(tmp_path: Path) -> None:
    made = write_hearts(tmp_path / "data", ("RAS",) * 7)
    (tmp_path / "data/labels/h1.nii").write_bytes(b"no NIfTI")
    (tmp_path / "data/labels/h6.nii").unlink()  # incomplete, which is no fault of a file
    report = simulate_dataset(made, tmp_path / "data", BOUNDARY, tmp_path / "out")
    assert list(report.failed) == ["h1"]
    assert "unreadable" in report.failed["h1"]
    assert "h2" in report.written


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"split": "val"}, ValueError, "split must be 'train' or 'all', got 'val'"),
        ({"recipe": "boundry"}, ValueError, "model must be one of"),
        ({"manifest": "no_such"}, FileNotFoundError, "No manifest 'no_such'"),
        ({"dataset_dir": "nowhere"}, FileNotFoundError, "Dataset folder"),
    ],
)
def test_wrong_arguments(phantom: Path, tmp_path: Path, change: dict, error: type, message: str) -> None:
    settings = {"manifest": "phantom_hcc", "dataset_dir": phantom, "recipe": BOUNDARY, "out_dir": tmp_path / "out"}
    with pytest.raises(error, match=message):
        simulate_dataset(**{**settings, **change})
    assert not (tmp_path / "out").exists()
