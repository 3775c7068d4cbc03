"""The app's folder, and the command that serves it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest
from running_bundles import BUNDLES, REPOSITORY
from simulated import digests

from monai_noisylabel.label_app.launch import (
    make_app,
    requirements_file,
    server_command,
    server_environment,
    set_up_command,
)


def test_the_app_holds_all_bundles(tmp_path: Path) -> None:
    before = digests(REPOSITORY / "bundles")
    app = make_app(tmp_path)
    assert app == tmp_path / "app"
    assert json.loads((app / "bundles.json").read_text()) == sorted(BUNDLES)
    for name in BUNDLES:
        configs = {path.name for path in (app / "model" / name / "configs").iterdir()}
        assert {"train.json", "inference.json", "metadata.json"} <= configs
        assert not (app / "model" / name / "models").exists()
    assert "NoisyLabelApp" in (app / "main.py").read_text()
    assert digests(REPOSITORY / "bundles") == before


def test_what_a_bundle_has_learned_is_kept(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    for name in ("train.json", "inference.json", "metadata.json"):
        (own / "configs").mkdir(parents=True, exist_ok=True)
        (own / "configs" / name).write_text("{}")
    (own / "models").mkdir()
    (own / "models/model.pt").write_bytes(b"from elsewhere")
    model = make_app(tmp_path, [str(own), "baseline"]) / "model/mine/models/model.pt"
    assert model.read_bytes() == b"from elsewhere"
    model.write_bytes(b"trained here")
    (own / "configs/train.json").write_text('{"new": 1}')
    make_app(tmp_path, [str(own)])
    assert model.read_bytes() == b"trained here"
    assert (tmp_path / "app/model/mine/configs/train.json").read_text() == '{"new": 1}'
    assert json.loads((tmp_path / "app/bundles.json").read_text()) == ["mine"]
    (tmp_path / "given.pt").write_bytes(b"given")
    make_app(tmp_path, [str(own)], {"mine": tmp_path / "given.pt"})
    assert model.read_bytes() == b"given"


def test_bundles_that_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two bundles are called baseline"):
        make_app(tmp_path, ["baseline", str(REPOSITORY / "bundles/baseline")])
    with pytest.raises(ValueError, match="weights are for jcas, which is not served"):
        make_app(tmp_path, ["baseline"], {"jcas": tmp_path / "model.pt"})
    with pytest.raises(FileNotFoundError, match="No bundle 'none'"):
        make_app(tmp_path, ["none"])
    assert not (tmp_path / "app").exists()


def test_without_monai_label_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="MONAI Label is not installed") as caught:
        server_command(tmp_path, "127.0.0.1", 8000)
    assert set_up_command() in str(caught.value)
    assert str(requirements_file()) in set_up_command()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    command = server_command(tmp_path, "127.0.0.1", 8001)
    assert command[:4] == [sys.executable, "-m", "monailabel.main", "start_server"]
    assert command[command.index("--studies") + 1] == str(tmp_path)
    assert command[command.index("--port") + 1] == "8001"


def test_every_requirement_has_one_version() -> None:
    lines = [line for line in requirements_file().read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert "monailabel==0.8.5" in lines
    tested = (REPOSITORY / "constraints.txt").read_text().lower().splitlines()
    assert {line.split("==")[0].lower() for line in lines} & {line.split("==")[0] for line in tested} == set()


def test_pydicom_seg_has_a_stand_in_where_it_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_app(tmp_path, ["baseline"])
    stand_ins = str(tmp_path / "app/stand_ins")
    assert Path(stand_ins, "pydicom_seg/__init__.py").is_file()
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setitem(sys.modules, "pydicom_seg", None)  # its import raises
    environment = server_environment(tmp_path)
    assert environment["PYTHONPATH"] == f"{stand_ins}{os.pathsep}elsewhere"
    assert environment["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"
    monkeypatch.setitem(sys.modules, "pydicom_seg", os)
    assert server_environment(tmp_path)["PYTHONPATH"] == "elsewhere"
