"""The journal of a review: nothing that was written down is lost."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monai_noisylabel.label_app.journal import Entry, Journal


def test_entries_come_back_in_order_from_another_process(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    journal = Journal(tmp_path / "review" / "journal.jsonl")
    first = journal.append("Änne", "h1", "edited", {"labels/h1.nii": "ab"}, "the rim\nwas off")
    second = journal.append("bob", "h2", "skipped", {})
    assert Journal(journal.path).entries() == [first, second]
    assert first == Entry(first.time, "Änne", "h1", "edited", {"labels/h1.nii": "ab"}, "the rim\nwas off")
    assert before <= datetime.fromisoformat(first.time) <= datetime.now(UTC)


def test_a_line_that_a_crash_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    first = journal.append("ann", "h1", "edited", {})
    journal.append("ann", "h2", "edited", {})
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-20])
    third = journal.append("ann", "h3", "edited", {})
    assert journal.entries() == [first, third]
    journal.path.write_bytes(journal.path.read_bytes() + b'\xff\n"text"\n{"time": "now"}\n')
    assert journal.entries() == [first, third]


def test_an_entry_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_text()))
    Journal(path).append("ann", "h1", "edited", {})
    assert synced == [path.read_text()]
