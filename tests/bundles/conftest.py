"""A phantom small enough to train on in seconds, and bundles run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_noisylabel.data import make_phantom

REPOSITORY = Path(__file__).parents[2]
BUNDLES = ("baseline", "self_cleansing")

Command = Callable[..., list[str]]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "set", cases=8, shape=(64, 64, 8), spacing=(5, 5, 20))


@pytest.fixture
def command(phantom: Path) -> Command:
    """Arguments that run a bundle's training on the small phantom, with a small network, into a folder."""

    def arguments(bundle: str, folder: Path, *more: str, config: str = "train.json") -> list[str]:
        root = REPOSITORY / "bundles" / bundle
        files = [str(root / "configs" / name) for name in config.split("+")]
        return [
            "-m",
            "monai.bundle",
            "run",
            "--config_file",
            files[0] if len(files) == 1 else str(files),
            *("--bundle_root", str(root), "--ckpt_dir", str(folder / "models"), "--output_dir", str(folder / "eval")),
            *("--dataset_dir", str(phantom), "--network_def#channels", "[4,4,8,8]"),
            *more,
        ]

    return arguments


def run(arguments: list[str], timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` with one thread and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
