"""A real MONAI Label server on loopback, in its own environment, as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import requests
from running_bundles import REPOSITORY

PYTHON = os.environ.get("NOISYLABEL_LABEL_APP_PYTHON", "")
"""Python of an environment that has MONAI Label, see docs/review.md."""

PATIENCE = 420
"""Seconds; a quiet machine needs 15 for a start and for a training."""


class LabelServer:
    """The command ``noisylabel label-app start`` in a process of its own, and requests to it.

    Args:
        log: file for what it prints.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: object) -> None:
        """Start it and wait until it answers."""
        command = [PYTHON, "-m", "monai_noisylabel.cli", "label-app", "start", *map(str, arguments)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=REPOSITORY,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        began = time.monotonic()
        while True:
            try:
                requests.get(f"http://127.0.0.1:{self.port}/favicon.ico", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                    raise AssertionError(f"the server does not answer:\n{self.log.read_text()[-5000:]}") from None
                time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power failure would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, status: int = 200, **content: Any) -> requests.Response:
        """Send a request whose answer must have a status."""
        address = f"http://127.0.0.1:{self.port}{path}"
        found = requests.request(method, address, timeout=PATIENCE, **content)
        assert found.status_code == status, f"{method} {path}: {found.status_code} {found.text}\n{self._tail()}"
        return found

    def next_case(self, strategy: str = "worst_label_first", **request: Any) -> dict[str, Any]:
        """The case that a strategy chooses."""
        sample: dict[str, Any] = self.ask("POST", f"/activelearning/{strategy}", json=request).json()
        return sample

    def save(self, case: str, label: Path, tag: str, status: int = 200, **params: Any) -> requests.Response:
        """Hand a label in."""
        with label.open("rb") as stream:
            return self.ask(
                "PUT",
                f"/datastore/label?image={case}&tag={tag}",
                status,
                data={"params": json.dumps(params)},
                files={"label": (label.name, stream)},
            )

    def predicted(self, model: str, case: str, target: Path) -> Path:
        """File with what a model says of a case."""
        answer = self.ask("POST", f"/infer/{model}?image={case}&output=image", data={"params": '{"device": "cpu"}'})
        target.write_bytes(answer.content)
        return target

    def finished(self, task: str) -> dict[str, Any]:
        """The last task that runs in the background, once it has ended."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            found: dict[str, Any] = self.ask("GET", f"/{task}/").json()
            if found["status"] not in ("SUBMITTED", "RUNNING"):
                return found
            time.sleep(0.5)
        raise AssertionError(f"{task} does not end:\n{self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def small_bundle(folder: Path) -> Path:
    """The bundle ``baseline`` with a small network, under a name of its own."""
    shutil.copytree(REPOSITORY / "bundles/baseline", folder)
    for name in ("train.json", "inference.json"):
        path = folder / "configs" / name
        content = json.loads(path.read_text())
        content["network_def"]["channels"] = [4, 4, 8, 8]
        path.write_text(json.dumps(content))
    return folder
