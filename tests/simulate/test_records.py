"""Records on disk: what counts as finished, and what an interruption leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from monai_noisylabel.simulate.records import Records


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    roots = {"files": tmp_path / "out", "originals": tmp_path / "data"}
    for root in roots.values():
        root.mkdir()
        for name in "ab":
            (root / name).write_text(f"{name} in {root.name}")
    return roots


def _line(case: str, roots: dict[str, Path], file: str = "a", **more: Any) -> dict[str, Any]:
    sums = {name: {file: hashlib.sha256((root / file).read_bytes()).hexdigest()} for name, root in roots.items()}
    return {"case": case, "checksums": sums, **more}


def test_recorded_cases_are_finished_also_for_the_next_run(roots: dict[str, Path], tmp_path: Path) -> None:
    records = Records(tmp_path / "r.jsonl", roots)
    assert not records.finished(["v/0"])
    records.add([_line("v/0", roots), _line("v/1", roots)])
    for now in (records, Records(tmp_path / "r.jsonl", roots)):
        assert now.finished(["v/0", "v/1"])
        assert now.finished(["v/1"])
        assert not now.finished(["v/0", "v/2"])


@pytest.mark.parametrize("root", ["files", "originals"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_changed_file_makes_its_case_unfinished(
    roots: dict[str, Path], tmp_path: Path, root: str, gone: bool
) -> None:
    records = Records(tmp_path / "r.jsonl", roots)
    records.add([_line("1", roots, "a"), _line("2", roots, "b")])
    if gone:
        (roots[root] / "a").unlink()
    else:
        (roots[root] / "a").write_text("other")
    assert not records.finished(["1"])
    assert records.finished(["2"])


def test_slices_of_one_volume_that_were_written_apart_are_not_finished(roots: dict[str, Path], tmp_path: Path) -> None:
    """A run was killed between the lines of a volume; the next one made its file anew, and was killed again."""
    records = Records(tmp_path / "r.jsonl", roots)
    records.add([_line("v/0", roots), _line("v/1", roots)])
    (roots["files"] / "a").write_text("made anew")
    records.add([_line("v/0", roots)])
    assert not records.finished(["v/0", "v/1"])


def test_folders_of_predictions_count_where_a_case_took_one(roots: dict[str, Path], tmp_path: Path) -> None:
    predicted = {**roots, "predicted in p": tmp_path / "p"}
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a").write_text("predicted")
    records = Records(tmp_path / "r.jsonl", predicted)
    records.add([_line("1", roots, "b"), _line("2", predicted, "a")])
    assert records.finished(["1"])
    assert records.finished(["2"])
    (tmp_path / "p/a").write_text("predicted anew")
    assert records.finished(["1"])
    assert not records.finished(["2"])
    assert not Records(tmp_path / "r.jsonl", roots).finished(["2"])


def test_a_line_cut_off_is_dropped_and_the_last_of_a_case_counts(roots: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    records = Records(path, roots)
    records.add([_line("1", roots, dice=0.5), _line("2", roots)])
    records.add([_line("1", roots, dice=0.7)])
    with path.open("a") as stream:
        stream.write('{"case": "3", "checksums": {"fil')
    again = Records(path, roots)
    assert not again.finished(["3"])
    again.add([_line("3", roots)])
    assert [json.loads(line)["case"] for line in path.read_text().splitlines()] == ["1", "2", "3"]
    assert [line.get("dice") for line in again.keep(["3", "1"])] == [None, 0.7]
    assert [json.loads(line)["case"] for line in path.read_text().splitlines()] == ["3", "1"]


def test_files(roots: dict[str, Path], tmp_path: Path) -> None:
    records = Records(tmp_path / "r.jsonl", roots)
    records.add([_line("1", roots, "a"), _line("2", roots, "b")])
    assert records.files() == [roots["files"] / "a", roots["files"] / "b"]
