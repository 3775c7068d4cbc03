"""Studies whose cells are run by a script that trains nothing and leaves what a training leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from monai_noisylabel.study.spec import Study

FAKE_CELL = Path(__file__).with_name("study_fake_cell.py")
COMMAND = (sys.executable, "-I", "-S", str(FAKE_CELL))
PHANTOM = {"seed": 0, "cases": 5, "shape": [32, 32, 8], "spacing": [10, 10, 20]}


def study(**changes: Any) -> Study:
    """Two methods under one noise with two seeds, on a tiny phantom; entries can be replaced."""
    content: dict[str, Any] = {
        "name": "made_up",
        "datasets": {"phantom": {"manifest": "phantom_hcc", "phantom": PHANTOM}},
        "noise": {"missing": {"model": "missing", "alpha": 0.5}},
        "methods": ["t_loss", "jocor"],
        "seeds": [0, 1],
    }
    return Study.model_validate({**content, **changes})


def runs_of(folder: Path) -> list[str]:
    """What the fake cells of a study did, in order: ``<cell> begin``, ``<cell> end``."""
    path = folder / "fake_runs.txt"
    return path.read_text().splitlines() if path.exists() else []


def plan(folder: Path, **behaviour: Any) -> None:
    """What the fake cells are to do: ``fail``, ``fail_once`` and ``wait``, lists of methods."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / f"{folder.name}_plan.json").write_text(json.dumps(behaviour))
