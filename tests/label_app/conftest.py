from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reviewed_hearts import write_audited_hearts


@pytest.fixture(scope="session")
def _audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hearts")
    patch = pytest.MonkeyPatch()
    patch.setenv("NOISYLABEL_CACHE", str(root / "cache"))
    write_audited_hearts(root)
    patch.undo()
    return root


@pytest.fixture
def hearts(_audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with ``data.json``, ``data``, and ``audit``, for one test to do as it likes with."""
    monkeypatch.setenv("NOISYLABEL_CACHE", str(_audited / "cache"))
    shutil.copytree(_audited, tmp_path / "hearts", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "hearts"
