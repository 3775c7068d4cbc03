"""The app as a folder that MONAI Label can run, and the command that runs it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from monai_noisylabel.data.bundle_folders import bundle_folder, shipped_bundles
from monai_noisylabel.handlers.atomic import write_atomically, write_bytes_atomically

__all__ = ["make_app", "requirements_file", "server_command", "server_environment", "set_up_command"]

STAND_IN = '"""Stands in for pydicom_seg, which writes DICOM segmentations; this app stores NIfTI."""\n'
CONFIGS = ("train.json", "inference.json", "metadata.json", "multi_gpu_train.json", "evaluate.json", "logging.conf")


def make_app(studies: Path, bundles: Sequence[str] = (), weights: Mapping[str, Path] | None = None) -> Path:
    """Copy the app and its bundles into the folder of a review.

    Bundles keep what they have learned there: only their configs are copied anew. Weights are copied when they are
    named, or lie in a bundle's own ``models/model.pt`` and the app has none of it yet.

    Args:
        studies: folder of the review.
        bundles: names of shipped bundles, or folders of others; none: all shipped ones.
        weights: files to serve as a bundle's ``model.pt``, by its name.

    Returns:
        The app's folder.

    Raises:
        FileNotFoundError: if there is no such bundle or file.
        ValueError: if two bundles have one name, or weights are for none of them.
    """
    app = studies / "app"
    folders = [bundle_folder(name) for name in bundles or shipped_bundles()]
    names = [folder.name for folder in folders]
    double = sorted({name for name in names if names.count(name) > 1})
    unknown = sorted(set(weights or {}) - set(names))
    if double or unknown:
        what = f"two bundles are called {double[0]}" if double else f"weights are for {unknown[0]}, which is not served"
        raise ValueError(f"{what}; --bundle and --weights name each bundle once.")
    source = resources.files("monai_noisylabel.label_app").joinpath("server", "main.py")
    write_atomically(source.read_text(encoding="utf-8"), app / "main.py")
    write_atomically(STAND_IN, app / "stand_ins" / "pydicom_seg" / "__init__.py")
    for folder in folders:
        target = app / "model" / folder.name
        for name in CONFIGS:
            if (folder / "configs" / name).is_file():
                _copy(folder / "configs" / name, target / "configs" / name)
        own, model = folder / "models" / "model.pt", target / "models" / "model.pt"
        chosen = (weights or {}).get(folder.name) or (own if own.is_file() and not model.exists() else None)
        if chosen is not None:
            _copy(Path(chosen), model)
    write_atomically(json.dumps(names) + "\n", app / "bundles.json")
    return app


def requirements_file() -> Path:
    """File with what MONAI Label needs besides this library, each in the one version that is tested."""
    return Path(str(resources.files("monai_noisylabel.label_app").joinpath("requirements.txt")))


def set_up_command() -> str:
    """Command that adds MONAI Label to the environment of this library."""
    return f"{sys.executable} -m pip install --no-deps -r {requirements_file()}"


def server_command(studies: Path, host: str, port: int) -> list[str]:
    """Command that serves the folder of a review.

    Raises:
        ImportError: if MONAI Label is not installed; the message names the command that installs it.
    """
    if importlib.util.find_spec("monailabel") is None:
        raise ImportError(
            "MONAI Label is not installed in this environment. Best in a virtual environment of its own that has "
            f"monai_noisylabel, install it with\n    {set_up_command()}"
        )
    where = ["--app", str(studies / "app"), "--studies", str(studies), "--host", host, "--port", str(port)]
    return [sys.executable, "-m", "monailabel.main", "start_server", *where]


def server_environment(studies: Path) -> dict[str, str]:
    """Environment variables of the server.

    MONAI Label would judge all labels again after every case; and it imports ``pydicom_seg``, which nothing here needs
    and which fails with pydicom 3.
    """
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    try:
        import pydicom_seg  # noqa: F401
    except Exception:  # it is missing, or breaks in one of many ways
        paths = [str(studies / "app" / "stand_ins"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _copy(source: Path, target: Path) -> None:
    write_bytes_atomically(source.read_bytes(), target)
