"""A phantom small enough to train on in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_noisylabel.data import make_phantom


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "set", cases=8, shape=(64, 64, 8), spacing=(5, 5, 20))
