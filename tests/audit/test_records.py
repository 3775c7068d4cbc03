"""What an audit remembers, and the folder that it keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_noisylabel.audit.records import Records, open_folder


def test_a_record_is_valid_for_its_key(tmp_path: Path) -> None:
    records = Records(tmp_path / "records")
    assert records.read("facts/a:b", "k") is None
    records.write("facts/a:b", "k", [1, {"x": None}])
    assert records.read("facts/a:b", "k") == [1, {"x": None}]
    assert records.read("facts/a:b", "other") is None
    path = next((tmp_path / "records").rglob("*.json"))
    path.write_text(path.read_text()[:-5])  # as an interruption might leave it
    assert records.read("facts/a:b", "k") is None


def test_a_folder_belongs_to_one_audit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    open_folder(out, {"split": "train"}, False, [])
    open_folder(out, {"split": "train"}, False, [])
    (out / "errors").mkdir()
    (out / "errors/a.nii.gz").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (out / "proposals").symlink_to(outside)
    (out / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="an audit with other settings"):
        open_folder(out, {"split": "all"}, False, [])
    assert (out / "errors/a.nii.gz").exists()
    open_folder(out, {"split": "all"}, True, [])
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "notes.txt"]
    assert (outside / "precious").exists()


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for out in (data, data / "audit", tmp_path):
        with pytest.raises(ValueError, match="must stay untouched"):
            open_folder(out, {}, True, [data])
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="holds something else"):
        open_folder(other, {}, True, [data])
