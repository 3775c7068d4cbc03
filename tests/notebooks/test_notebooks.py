"""The notebooks: that they run from nothing, and that what they are kept with can be read anywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from executed_notebooks import FOLDER, METADATA, PATHS, executed

LARGEST = 300_000
NAMES = [path.stem for path in PATHS]
MACHINE = re.compile(r"/(?:tmp|home|root|work|usr|var|private|Users)/|[A-Z]:\\\\")

notebooks = pytest.mark.parametrize("path", PATHS, ids=NAMES)


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_five_and_the_table_names_them() -> None:
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04", "05"]
    assert re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text()) == [path.name for path in PATHS]


@notebooks
def test_it_is_small_and_holds_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert MACHINE.findall(text) == []
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert {key for cell in notebook.cells for key in cell.metadata} == set()


@notebooks
def test_it_is_kept_with_its_outputs_and_without_errors_or_warnings(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = _outputs(notebook)
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1


@notebooks
def test_its_prose_is_finished(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert "TODO" not in cell.source
        assert cell.source.strip()


def test_ruff_reads_them_too() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", "."],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {path.name for path in PATHS} <= {Path(line).name for line in listed.stdout.splitlines()}


def test_the_method_of_ones_own_has_thirty_lines() -> None:
    notebook = nbformat.read(FOLDER / "04_your_own_method.ipynb", as_version=4)
    (method,) = [cell.source for cell in notebook.cells if "class BootstrappingLoss" in cell.source]
    assert len(method.splitlines()) <= 30


@pytest.mark.notebook
@notebooks
def test_it_runs_from_nothing(path: Path, tmp_path: Path) -> None:
    """Its cells hold the claims of its text as assertions; so what is left to see is that nothing else has changed."""
    notebook = executed(path, tmp_path)
    assert list((tmp_path / "here").iterdir()) == []
    kept = nbformat.read(path, as_version=4)
    assert [_kinds(cell) for cell in notebook.cells] == [_kinds(cell) for cell in kept.cells]


def _kinds(cell: Any) -> list[tuple[str, ...]]:
    """What a cell puts out: text, tables, pictures."""
    return [(output.output_type, *sorted(output.get("data", {}))) for output in cell.get("outputs", [])]
