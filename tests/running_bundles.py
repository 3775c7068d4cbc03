"""Running bundles from tests the way a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

REPOSITORY = Path(__file__).parents[1]
BUNDLES = ("baseline", "self_cleansing", "robust_loss", "t_loss", "co_teaching", "jocor", "tri_network", "superpixel")
BUNDLES += ("jcas", "clcs", "confident_learning", "pick_and_learn")


def training_command(bundle: str, folder: Path, phantom: Path, *more: str, config: str = "train.json") -> list[str]:
    """Arguments of python that train a bundle with a small network on a small phantom into a folder."""
    root = REPOSITORY / "bundles" / bundle
    files = [str(root / "configs" / name) for name in config.split("+")]
    return [
        *("-m", "monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files)),
        *("--bundle_root", str(root), "--ckpt_dir", str(folder / "models"), "--output_dir", str(folder / "eval")),
        *("--dataset_dir", str(phantom), "--network_def#channels", "[4,4,8,8]"),
        *more,
    ]


def run(arguments: list[str], timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` with one thread and return what it printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        check=False,
    )


def train_on_two(bundle: str, folder: Path, phantom: Path, *more: str) -> None:
    """Train a bundle by two processes that torchrun starts, on the CPU; if one fails, all that was printed is shown."""
    arguments = training_command(bundle, folder, phantom, *more, config="train.json+multi_gpu_train.json")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = run([*launcher, *arguments], PYTHONFAULTHANDLER="1")
    assert result.returncode == 0, result.stdout + result.stderr


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start ``python ARGUMENTS`` with one thread, to be interrupted."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, tests and their trainings included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Return once the file exists or the process has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)


def training_workflow(bundle: str, folder: Path, phantom: Path, **overrides: Any) -> ConfigWorkflow:
    """A bundle's training in this process, initialised, with its own network, into a folder."""
    root = REPOSITORY / "bundles" / bundle
    workflow = ConfigWorkflow(
        str(root / "configs" / "train.json"),
        workflow_type="train",
        bundle_root=str(root),
        dataset_dir=str(phantom),
        ckpt_dir=str(folder / "models"),
        output_dir=str(folder / "eval"),
        **overrides,
    )
    workflow.initialize()
    return workflow


def run_until_interrupted(workflow: ConfigWorkflow, epoch: int) -> None:
    """Run a training that Ctrl-C ends when the epoch begins."""

    def stop() -> None:
        if workflow.trainer.state.epoch == epoch:
            raise KeyboardInterrupt

    workflow.trainer.add_event_handler("EPOCH_STARTED", stop)
    with pytest.raises(SystemExit):
        workflow.run()


def outcome(folder: Path, *objects: str) -> dict[str, Any]:
    """All that a training leaves, and objects of its checkpoint, to the last bit."""
    models = [torch.load(folder / "models" / name, weights_only=True) for name in ("model.pt", "model_final.pt")]
    state = torch.load(folder / "models" / "training_state.pt", weights_only=True)["objects"]
    return {
        "weights": [
            [value.numpy().tobytes() for value in found.values()]
            for found in (*models, *(state[name] for name in objects))
        ],
        "metrics": (folder / "eval" / "metrics.csv").read_text(),
        "published": json.loads((folder / "eval" / "summary.json").read_text())["published"],
    }
