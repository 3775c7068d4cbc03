"""The command ``noisylabel study``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from study_fakes import COMMAND, plan, study
from typer.testing import CliRunner

from monai_noisylabel.cli import app
from monai_noisylabel.study import process, runner


@pytest.fixture(autouse=True)
def _fake_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has no option for what a cell runs: fake cells take the place of trainings."""
    executed = runner._executed

    def with_fakes(folders: list[Path], out: Path, executor: runner.Executor, threads: int) -> object:
        fakes = runner.Executor(executor.processes, executor.gpus, executor.scheduler, executor.tracking_uri, COMMAND)
        return executed(folders, out, fakes, threads)

    monkeypatch.setattr(runner, "_executed", with_fakes)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study(seeds=[0]).model_dump(), sort_keys=False))
    return str(tmp_path / "study.yaml")


def test_it_runs_reports_and_goes_on(file: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["study", file, "--out", str(out), "--processes", "1"])
    assert result.exit_code == 0, result.output
    assert "[1/4] phantom/clean/baseline/seed0: finished" in result.output
    assert "4 finished, 0 kept, 0 failed of 4." in result.output
    assert f"Report: {out / 'report.md'}, {out / 'report.html'}" in result.output
    (out / "report.md").unlink()
    again = CliRunner().invoke(app, ["study", "--out", str(out), file])
    assert again.exit_code == 0, again.output
    assert "0 finished, 4 kept, 0 failed of 4." in again.output
    (out / "report.md").unlink()
    assert CliRunner().invoke(app, ["study", "report", str(out)]).exit_code == 0
    assert "jocor" in (out / "report.md").read_text()


def test_a_failure_is_told_and_not_fatal(file: str, tmp_path: Path) -> None:
    plan(tmp_path / "out", fail=["t_loss"])
    result = CliRunner().invoke(app, ["study", "run", file, "--out", str(tmp_path / "out"), "--processes", "1"])
    assert result.exit_code == 1
    assert "[3/4] phantom/missing/t_loss/seed0: failed" in result.output
    assert "this method is made to fail" in result.output
    assert "3 finished, 0 kept, 1 failed of 4. Failed: phantom/missing/t_loss/seed0." in result.output
    assert "1 cells failed" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such", "--out", "{out}"], "No study 'no_such'"),
        (["{file}", "--out", "{out}", "--dataset_dir", "phantom"], "--dataset_dir phantom: write NAME=DIR"),
        (["{file}", "--out", "{out}", "--dataset_dir", "heart=x"], "has the datasets ['phantom']"),
        (["jsrt_superpixel_table", "--out", "{out}"], "needs dataset_dir"),
        (["report", "{out}"], "is no study's folder"),
    ],
)
def test_errors_are_plain(arguments: list[str], message: str, file: str, tmp_path: Path) -> None:
    given = [argument.format(file=file, out=tmp_path / "out") for argument in arguments]
    result = CliRunner().invoke(app, ["study", *given])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_ctrl_c_is_told(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> process.Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_executed", interrupted)
    result = CliRunner().invoke(app, ["study", file, "--out", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


def test_the_list(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "list"])
    assert result.exit_code == 0
    for name in (
        "quick",
        "jsrt_superpixel_table",
        "acdc_self_cleansing_table",
        "tloss_isic_table",
        "endovis_jcas_table",
    ):
        assert name in result.stdout
