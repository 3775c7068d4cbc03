"""A phantom whose training grid is the grid of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_noisylabel.data import make_phantom


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of 64 x 64 pixels, the size that the manifest phantom_hcc brings slices to."""
    return make_phantom(tmp_path_factory.mktemp("phantom") / "set", cases=5, shape=(64, 64, 8), spacing=(5, 5, 20))
