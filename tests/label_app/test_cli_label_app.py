"""The commands of the label app."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from running_bundles import REPOSITORY
from simulated import digests
from typer.testing import CliRunner

import monai_noisylabel.label_app.launch as launch
from monai_noisylabel.cli import app
from monai_noisylabel.label_app import Review, open_workspace


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["label-app", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command would have become."""
    calls: list[Any] = []
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "execve", lambda path, command, environment: calls.append((command, environment)))
    return calls


def _start(hearts: Path, *more: object) -> tuple[int, str]:
    dataset = [hearts / "data.json", "--dataset_dir", hearts / "data", "--studies", hearts / "studies"]
    return _run("start", *dataset, *more)


def test_a_review_is_started_and_gone_on_with(hearts: Path, served: list[Any]) -> None:
    before = digests(hearts / "data")
    code, output = _start(hearts, "--audit", hearts / "audit", "--bundle", "baseline", "--port", "8111")
    assert code == 0, output
    assert f"Serving {hearts / 'studies'} at http://127.0.0.1:8111" in output
    command, environment = served[0]
    assert command[-4:] == ["--host", "127.0.0.1", "--port", "8111"]
    assert environment["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"
    review = Review(open_workspace(hearts / "studies"))
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    code, output = _run("start", "--studies", hearts / "studies", "--bundle", "baseline", "--host", "0.0.0.0")
    assert code == 0, output
    assert served[1][0][served[1][0].index("--host") + 1] == "0.0.0.0"
    code, output = _run("status", "--studies", hearts / "studies")
    assert (code, output.strip()) == (0, "1 of 5 cases decided, 1 accepted proposal; 1 with findings are left.")
    assert digests(hearts / "data") == before


def test_options_reach_the_review(hearts: Path, served: list[Any]) -> None:
    weights = hearts / "mine.pt"
    weights.write_bytes(b"weights")
    more = ["--split", "all", "--classes", "wall,bar", "--spatial_dims", "2", "--bundle", "t_loss"]
    code, output = _start(hearts, *more, "--weights", f"t_loss={weights}")
    assert code == 0, output
    workspace = open_workspace(hearts / "studies")
    assert (len(workspace.items), workspace.spec.classes, workspace.spec.spatial_dims) == (7, ("wall", "bar"), 2)
    assert (hearts / "studies/app/model/t_loss/models/model.pt").read_bytes() == b"weights"
    code, output = _run("path", "--studies", hearts / "studies", "--bundle", REPOSITORY / "bundles/jcas")
    assert (code, output.strip()) == (0, str((hearts / "studies/app").resolve()))
    assert (hearts / "studies/app/model/jcas/configs/train.json").is_file()


def test_what_cannot_be_served(hearts: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in (
        (["start", "--studies", hearts / "none"], "is no review"),
        (["path", "--studies", hearts / "none"], "is no review"),
        (["status", "--studies", hearts / "none"], "is no review"),
        (["export", "--studies", hearts / "none", "--out", hearts / "out"], "is no review"),
    ):
        code, output = _run(*arguments)
        assert code == 2
        assert message in output
    for weights in ("t_loss", "t_loss=none.pt"):
        code, output = _start(hearts, "--bundle", "t_loss", "--weights", weights)
        assert code == 2
        assert f"--weights {weights}: write NAME=FILE" in output
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    code, output = _start(hearts)
    assert code == 2
    assert launch.set_up_command() in output
    assert served == []


def test_export(hearts: Path, served: list[Any]) -> None:
    _start(hearts, "--audit", hearts / "audit", "--bundle", "baseline")
    review = Review(open_workspace(hearts / "studies"))
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    code, output = _run("export", "--studies", hearts / "studies", "--out", hearts / "out")
    assert code == 0, output
    assert f"1 reviewed labels and 6 given ones in {hearts / 'out'}, 0 failed." in output
    assert f"--manifest {hearts / 'out/manifest.json'} --dataset_dir {hearts / 'out'} --noise none" in output
    (review.workspace.reviewed / "labels/h3.nii").unlink()
    code, output = _run("export", "--studies", hearts / "studies", "--out", hearts / "out")
    assert code == 1
    assert "h3: ValueError:" in output
