"""The command that writes labels with simulated noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulated import digests, write_hearts
from typer.testing import CliRunner

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.cli import app


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)
    made = write_hearts(tmp_path / "data", ("RAS",) * 7)
    (tmp_path / "made.json").write_text(made.model_dump_json())
    (tmp_path / "recipe.json").write_text('{"model": "boundary", "alpha": 1.0, "beta": 3}')
    return ["simulate", str(tmp_path / "made.json"), "--dataset_dir", str(tmp_path / "data")]


def _run(arguments: list[str], tmp_path: Path, *more: str) -> tuple[int, str]:
    recipe = [] if "--recipe" in more else ["--recipe", str(tmp_path / "recipe.json")]
    out = [] if "--out" in more else ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, *recipe, *out, *more])
    return result.exit_code, result.output


def test_it_writes_measures_and_goes_on(arguments: list[str], tmp_path: Path) -> None:
    before = digests(tmp_path / "data")
    code, output = _run(arguments, tmp_path, "--seed", "3")
    assert code == 0, output
    assert "Measured noise: 3 of 3 cases" in output
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    row = next(line for line in output.splitlines() if "cavity" in line)
    assert f"{summary['classes']['cavity']['dice']:.3f}" in row
    assert f"3 written to {tmp_path / 'out'}, 0 kept, 0 failed. Look at" in output
    assert json.loads((tmp_path / "out/recipe.json").read_text())["seed"] == 3
    code, output = _run(arguments, tmp_path, "--seed", "3")
    assert code == 0
    assert "0 written to" in output
    assert "3 kept" in output
    assert digests(tmp_path / "data") == before


def test_another_simulation_needs_overwrite(arguments: list[str], tmp_path: Path) -> None:
    _run(arguments, tmp_path)
    code, output = _run(arguments, tmp_path, "--seed", "1")
    assert code == 2
    assert "holds another simulation" in output
    code, _ = _run(arguments, tmp_path, "--seed", "1", "--overwrite")
    assert code == 0


def test_options_reach_the_simulation(arguments: list[str], tmp_path: Path) -> None:
    options = ["--split", "all", "--spatial_dims", "2", "--classes", "wall,bar", "--with_images"]
    code, output = _run(arguments, tmp_path, *options)
    assert code == 0, output
    assert "5 written" in output
    assert "5 images and labels copied" in output
    assert f"--manifest {tmp_path / 'out/manifest.json'} --dataset_dir {tmp_path / 'out'} --noise none" in output
    described = json.loads((tmp_path / "out/recipe.json").read_text())
    assert (described["split"], described["spatial_dims"], described["classes"]) == ("all", 2, ["wall", "bar"])


def test_a_bad_case_is_named_and_the_others_are_written(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "data/labels/h1.nii").write_bytes(b"no NIfTI")
    code, output = _run(arguments, tmp_path)
    assert code == 1
    assert "h1: unreadable" in output
    assert "2 written" in output


def test_labels_that_another_model_predicted(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    for number in range(7):
        source = tmp_path / f"data/labels/h{number}.nii"
        (tmp_path / f"pred/h{number}_seg.nii").write_bytes(source.read_bytes())
    recipe = {"model": "predicted", "labels": str(tmp_path / "pred"), "alpha": 1.0}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, output = _run(arguments, tmp_path)
    assert code == 1  # they hold the values of the files instead of the numbers of the classes
    assert "holds the integers 0 to 3, got values from 0 to 30" in output
    assert "the predicted label in" in output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{model: boundary}", "is no JSON file"),
        ('{"model": "boundry"}', "model must be one of"),
        ("[1]", "a model name or a mapping of fields, got list"),
    ],
)
def test_recipes_that_cannot_be_used(arguments: list[str], tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "recipe.json").write_text(content)
    code, output = _run(arguments, tmp_path)
    assert code == 2
    assert message in output
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_simulated(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "Missing option '--recipe'" in result.output
    code, output = _run(arguments, tmp_path, "--out", str(tmp_path / "data/noisy"))
    assert code == 2
    assert "lie in each other" in output
    code, output = _run(arguments, tmp_path, "--recipe", str(tmp_path / "none.json"))
    assert code == 2
    assert "none.json" in output
