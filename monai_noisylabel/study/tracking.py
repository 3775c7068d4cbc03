"""Every cell as a run of MLflow."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

__all__ = [
    "NO_TRACKING",
    "TRACKING_VARIABLE",
    "default_tracking_uri",
    "note_results",
    "open_store",
    "tracking_settings",
]

TRACKING_VARIABLE = "NOISYLABEL_STUDY_TRACKING_URI"
NO_TRACKING = "none"
WAIT_SECONDS = 60


def default_tracking_uri(out: Path) -> str:
    """The SQLite file ``mlruns.db`` in a study's folder; whoever finds it locked waits."""
    return f"sqlite:///{out.resolve() / 'mlruns.db'}?timeout={WAIT_SECONDS}"


def open_store(uri: str, experiment: str) -> None:
    """Create the tables of a new store, and the experiment, now: two cells that both miss them would both make them."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    if client.get_experiment_by_name(experiment) is None:
        client.create_experiment(experiment)


def tracking_settings(uri: str, experiment: str, run: str) -> dict[str, Any]:
    """Settings for the bundle's tracking: MONAI's own, with a name for the run, and per epoch instead of per step."""
    settings: dict[str, Any] = copy.deepcopy(DEFAULT_MLFLOW_SETTINGS)
    settings["configs"] |= {"tracking_uri": uri, "experiment_name": experiment, "run_name": run}
    settings["configs"]["trainer"]["iteration_log"] = False
    return settings


def note_results(uri: str, cell: Mapping[str, Any], run: str, metrics: Mapping[str, float]) -> None:
    """Add what the cell was and what came out to its run.

    Args:
        uri: of the store.
        cell: content of ``cell.json``.
        run: name of the run.
        metrics: results by name.
    """
    import mlflow
    from mlflow.entities import Metric, RunTag

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(cell["study"])
    if experiment is None:
        return
    now = int(1000 * time.time())
    values = [Metric(name, value, now, 0) for name, value in metrics.items()]
    tags = [RunTag(key, str(cell[key])) for key in ("dataset", "noise", "method", "seed", "digest")]
    for found in client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run}'"):
        client.log_batch(found.info.run_id, values, tags=tags)
