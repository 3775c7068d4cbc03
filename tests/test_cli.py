"""Console command."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_files import manifest, write_ct_dataset
from typer.testing import CliRunner

from monai_noisylabel.cli import app


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Arguments of a check of four good cases."""
    write_ct_dataset(tmp_path / "data")
    (tmp_path / "made.json").write_text(manifest().model_dump_json())
    return ["data", "check", str(tmp_path / "made.json"), "--dataset_dir", str(tmp_path / "data")]


def test_a_good_dataset(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout == "made_up: Safe to train on: 2 train, 1 val, 1 test.\n"


def test_a_damaged_dataset(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "data/images/c1.nii.gz").write_bytes(b"damaged")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    row = next(line for line in result.stdout.splitlines() if "unreadable" in line)
    assert "c1" in row
    assert "images/c1.nii.gz" in row
    assert "left out" in row
    assert "NOT SAFE" in result.stdout


def test_a_long_table_is_cut(arguments: list[str], tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"data/images/c{number}.nii.gz").write_bytes(b"damaged")
    result = CliRunner().invoke(app, [*arguments, "--max_problems", "2"])
    assert "1 more; --max_problems 0 shows all" in result.stdout
    assert result.stdout.count("unreadable") == 2
    assert CliRunner().invoke(app, [*arguments, "--max_problems", "0"]).stdout.count("unreadable") == 3


def test_text_from_files_is_shown_as_it_is(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "data/images/[red]x.nii.gz").write_bytes(b"")
    result = CliRunner().invoke(app, arguments)
    assert "[red]x" in result.stdout


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    for wrong, message in (
        (["jsrt", "--dataset_dir", str(tmp_path / "nowhere")], "does not exist. Obtain the dataset"),
        (["jsrt"], "needs dataset_dir"),
        (["no_such"], "neither a file nor one of the shipped"),
    ):
        result = CliRunner().invoke(app, ["data", "check", *wrong])
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output


def test_dimensions_of_the_run(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, [*arguments, "--spatial_dims", "2"]).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "--spatial_dims", "5"]).exit_code == 2


def test_the_list_of_manifests() -> None:
    result = CliRunner().invoke(app, ["data", "list"])
    assert result.exit_code == 0
    for name in (
        "phantom_hcc",
        "hcc",
        "acdc",
        "isic2017",
        "jsrt",
        "shenzhen",
        "endovis18",
        "riga",
        "hippocampus",
    ):
        assert name in result.stdout
