"""The command that audits a dataset."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running_bundles import REPOSITORY
from simulated import digests, write_hearts
from typer.testing import CliRunner

import monai_noisylabel.audit as module
from monai_noisylabel.cli import app


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    made = write_hearts(tmp_path / "data")
    (tmp_path / "made.json").write_text(made.model_dump_json())
    (tmp_path / "data/labels/h4.nii").write_bytes(b"no NIfTI")
    return [
        "audit",
        str(tmp_path / "made.json"),
        "--dataset_dir",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
    ]


def _run(arguments: list[str], *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, *more])
    return result.exit_code, result.output


def test_checks_alone(arguments: list[str], tmp_path: Path) -> None:
    before = digests(tmp_path / "data")
    code, output = _run(arguments, "--split", "all")
    assert code == 0, output
    assert "most suspicious of" in output
    row = next(line for line in output.splitlines() if "unreadable" in line)
    assert "h4" in row
    assert "1.000" in row
    assert f"Open {tmp_path / 'out/audit.html'}" in output
    assert (tmp_path / "out/audit.csv").exists()
    assert digests(tmp_path / "data") == before
    code, output = _run(arguments)
    assert code == 2
    assert "holds an audit with other settings" in output
    assert _run(arguments, "--overwrite")[0] == 0


def test_options_reach_the_audit(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def audit(manifest: str, dataset_dir: Path, out: Path, **options: Any) -> SimpleNamespace:
        seen.update(options, manifest=manifest, dataset_dir=dataset_dir, out=out)
        return SimpleNamespace(findings=[], cases=[], failed={"h1": "gone"}, page=out / "audit.html")

    monkeypatch.setattr(module, "audit_dataset", audit)
    more = ["--bundle", str(REPOSITORY / "bundles/baseline"), "--folds", "3", "--override", "max_epochs=2"]
    more += ["--override", "batch_size=1", "--split", "all", "--spatial_dims", "2", "--classes", "wall,bar"]
    code, output = _run(arguments, *more, "--tolerance", "1.5", "--seed", "4", "--overwrite")
    assert code == 1
    assert "h1: gone" in output
    assert seen["folds"].as_dict() == {
        "bundle": "baseline",
        "folds": 3,
        "overrides": ["max_epochs=2", "batch_size=1"],
        "seed": 4,
    }
    assert (seen["split"], seen["spatial_dims"], seen["classes"]) == ("all", 2, ["wall", "bar"])
    assert (seen["tolerance"], seen["overwrite"], seen["probabilities"]) == (1.5, True, None)
    assert (seen["dataset_dir"], seen["out"]) == (tmp_path / "data", tmp_path / "out")


def test_what_cannot_be_audited(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, message in (
        (["--override", "max_epochs=2"], "give --bundle too"),
        (["--bundle", str(tmp_path)], "neither a folder with configs/train.json"),
        (["--probabilities", str(tmp_path / "none")], "is no folder"),
    ):
        code, output = _run(arguments, *more)
        assert code == 2
        assert message in output
        assert not (tmp_path / "out").exists(), "a mistyped command must not claim the folder"

    def interrupted(*values: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "audit_dataset", interrupted)
    code, output = _run(arguments)
    assert code == 130
    assert "run the same command again" in output
