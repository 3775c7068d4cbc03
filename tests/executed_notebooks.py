"""The notebooks, executed by fresh kernels in folders of their own.

``python tests/executed_notebooks.py [NAME ...]`` executes all, or the named ones, and renews their outputs.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
SECONDS_PER_CELL = 300
QUIET = "ignore:IProgress"  # the advice of tqdm to install widgets
COLOURS = 256
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path, work: Path) -> NotebookNode:
    """A notebook with the outputs of a run whose working directory, home and cache lie in an empty folder.

    Raises:
        CellExecutionError: if a cell fails; its text holds the cell and the traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    home = work / "home"
    home.mkdir()
    places = {"HOME": str(home), "NOISYLABEL_CACHE": str(work / "cache"), "TMPDIR": str(_made(work / "temporary"))}
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(_made(work / "here"))}},
    )
    client.execute(env={**os.environ, **places, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": QUIET})
    return notebook


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def renew(path: Path) -> None:
    """Execute a notebook and write it back, with its outputs and without what differs from machine to machine."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(path, Path(folder))
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_few_colours(output.data["image/png"])
    nbformat.write(notebook, path)


def _with_few_colours(encoded: str) -> str:
    """A picture with a palette, at less than half of its size."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    stream = io.BytesIO()
    picture.quantize(COLOURS).save(stream, format="png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


if __name__ == "__main__":
    for name in sys.argv[1:] or [path.name for path in PATHS]:
        renew(FOLDER / name)
        print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")
