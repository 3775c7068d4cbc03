from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_noisylabel.data.label_codec import CorruptLabelError, as_label, file_stem, to_json
from monai_noisylabel.data.label_store import LabelStore

FORK = multiprocessing.get_context("fork")
CASES = ("a", "b/001", "ü %2F?")


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "store")


def filled(value: int, size: int = 6) -> np.ndarray:
    return np.full((1, size, size), value, np.uint8)


def commit_round(store: LabelStore, value: int, cases: tuple[str, ...] = CASES) -> int:
    for case in cases:
        store.propose(case, filled(value), reference=filled(0))
    return store.commit(f"round of {value}")


def files_under(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# ---------------------------------------- rounds


def test_newest_label_at_or_before_a_round(store: LabelStore) -> None:
    assert store.round == 0
    assert store.read("a") is None
    commit_round(store, 1, ("a", "b/001"))
    commit_round(store, 2, ("a",))
    commit_round(store, 3, ("c",))
    values = {
        (case, number): None if (label := store.read(case, number)) is None else int(label[0, 0, 0])
        for case in ("a", "b/001", "c")
        for number in (0, 1, 2, 3, None)
    }
    expected = {"a": (None, 1, 2, 2, 2), "b/001": (None, 1, 1, 1, 1), "c": (None, None, None, 3, 3)}
    assert values == {
        (case, number): value
        for case, row in expected.items()
        for number, value in zip((0, 1, 2, 3, None), row, strict=True)
    }


def test_staged_proposals_are_invisible_until_the_commit(store: LabelStore) -> None:
    store.propose("a", filled(1))
    assert store.read("a") is None
    assert store.staged() == ["a"]
    assert store.commit("first") == 1
    assert store.staged() == []
    np.testing.assert_array_equal(store.read("a"), filled(1))


def test_files_reach_the_disk_before_the_round_becomes_visible(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in CASES:
        store.propose(case, filled(1))
    staged = {os.stat(path).st_ino for path in (store.root / "staging" / "0001").iterdir()}
    steps: list[object] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(os, "rename", lambda *paths: (steps.append("visible"), rename(*paths)))
    store.commit("first")
    folder = store.root / "rounds" / "0001"
    before = set(steps[: steps.index("visible")])
    assert before == staged | {os.stat(folder).st_ino, os.stat(folder / "record.json").st_ino}
    assert steps[-1] == os.stat(store.root / "rounds").st_ino


def test_commit_cleans_up_after_killed_writers(store: LabelStore) -> None:
    store.propose("a", filled(1))
    (store.root / "staging" / "unfinished").write_bytes(b"torn")
    store.commit("first")
    assert files_under(store.root) == {"rounds/0001/a.label", "rounds/0001/record.json"}


def test_a_second_proposal_replaces_the_first(store: LabelStore) -> None:
    store.propose("a", filled(1))
    store.propose("a", filled(2))
    store.commit("first")
    np.testing.assert_array_equal(store.read("a"), filled(2))


def test_discarded_proposals_never_enter_the_round(store: LabelStore) -> None:
    for case in CASES:
        store.propose(case, filled(1))
    store.discard("b/001")
    store.discard("never proposed")
    assert store.staged() == sorted({"a", "ü %2F?"})
    store.discard()
    assert store.staged() == []
    assert store.commit("nothing changed") == 1
    assert store.record(1)["cases"] == {}


def test_withdrawn_label_is_gone_from_that_round_on(store: LabelStore) -> None:
    commit_round(store, 1)
    store.withdraw("a")
    assert store.staged() == ["a"]
    store.commit("given label was right")
    assert store.read("a") is None
    assert store.read("b/001") is not None
    np.testing.assert_array_equal(store.read("a", round=1), filled(1))
    assert [entry["withdrawn"] for entry in store.history("a")] == [False, True]
    commit_round(store, 3, ("a",))
    np.testing.assert_array_equal(store.read("a"), filled(3))
    assert store.verify() == 3


def test_withdrawal_and_proposal_replace_each_other(store: LabelStore) -> None:
    store.propose("a", filled(1))
    store.withdraw("a")
    store.withdraw("b")
    store.propose("b", filled(2))
    store.commit("both orders")
    assert set(os.listdir(store.root / "rounds" / "0001")) == {"a.withdrawn", "b.label", "record.json"}
    assert store.read("a") is None
    np.testing.assert_array_equal(store.read("b"), filled(2))


@pytest.mark.parametrize("case", ["plain", "v/003", "../up", ".", "a b%2F?*:\\", "ünïcode 患者", "x" * 400, "\udcff"])
def test_any_text_is_a_case_id(store: LabelStore, case: str) -> None:
    store.propose(case, filled(1))
    store.propose(case + "'", filled(2))
    assert store.staged() == sorted([case, case + "'"])
    store.commit("odd names")
    np.testing.assert_array_equal(store.read(case), filled(1))
    np.testing.assert_array_equal(store.read(case + "'"), filled(2))
    assert store.history(case)[0]["shape"] == [1, 6, 6]
    assert not (store.root.parent / "up.label").exists()
    assert max(len(name) for name in os.listdir(store.root / "rounds" / "0001")) < 255


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 5, 6), (2, 1, 1, 1)])
def test_labels_return_as_they_were(store: LabelStore, shape: tuple[int, ...]) -> None:
    label = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    store.propose("a", np.asfortranarray(label))
    store.commit("random")
    read = store.read("a")
    assert read is not None
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, label)
    read[...] = 0  # a fresh array: what a training does to it stays there
    np.testing.assert_array_equal(store.read("a"), label)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32, torch.bfloat16])
def test_tensors_of_any_type_are_stored(store: LabelStore, dtype: torch.dtype) -> None:
    label = MetaTensor(torch.tensor([[[0, 1], [1, 0]]]).to(dtype))
    store.propose("a", label, reference=label)
    store.commit("tensor")
    np.testing.assert_array_equal(store.read("a"), [[[0, 1], [1, 0]]])


# ---------------------------------------- records


def test_record_says_who_changed_what(store: LabelStore) -> None:
    # Reference 0 1 2 2, label 1 1 1 0: class 1 gains voxels 0 and 2; class 2 loses voxels 2 and 3.
    reference = np.array([[[0, 1, 2, 2]]])
    store.propose("multi-class", np.array([[[1, 1, 1, 0]]]), reference=reference, loss=np.float32(0.5), flags=[1])
    # Channel 1: one voxel added; channel 2: both removed.
    store.propose("multi-label", np.array([[[1, 0]], [[0, 0]]]), reference=np.array([[[0, 0]], [[1, 1]]]))
    store.propose("no reference", filled(1))
    store.commit("cleansing", method="self_cleansing", parameters={"sigma": 0.7, "mean": torch.tensor(2.0)})
    record = store.record(1)
    assert (record["round"], record["why"], record["method"]) == (1, "cleansing", "self_cleansing")
    assert record["parameters"] == {"sigma": 0.7, "mean": 2.0}
    assert record["time_utc"].endswith("+00:00")
    assert set(record["code_version"]) == {"monai_noisylabel", "monai", "torch", "numpy"}
    assert record["code_version"]["torch"] == torch.__version__
    case = record["cases"]["multi-class"]
    assert case["voxels_changed"] == {"1": {"added": 2, "removed": 0}, "2": {"added": 0, "removed": 2}}
    assert case["facts"] == {"loss": 0.5, "flags": [1]}
    assert case["shape"] == [1, 1, 4]
    assert len(case["sha256"]) == 64
    assert record["cases"]["multi-label"]["voxels_changed"] == {
        "1": {"added": 1, "removed": 0},
        "2": {"added": 0, "removed": 2},
    }
    assert record["cases"]["no reference"]["voxels_changed"] is None


def test_history_of_a_case(store: LabelStore) -> None:
    commit_round(store, 1)
    commit_round(store, 2, ("b/001",))
    commit_round(store, 3, ("a",))
    assert [(entry["round"], entry["why"]) for entry in store.history("a")] == [
        (1, "round of 1"),
        (3, "round of 3"),
    ]
    assert store.history("a")[1]["voxels_changed"] == {"3": {"added": 36, "removed": 0}}
    assert store.history("never") == []


def test_records_cannot_be_altered_through_the_result(store: LabelStore) -> None:
    commit_round(store, 1)
    store.record(1)["cases"].clear()
    store.history("a")[0]["facts"]["x"] = 1
    assert store.record(1)["cases"]["a"]["facts"] == {}


def test_geometry_is_kept_with_the_label(store: LabelStore) -> None:
    store.propose("a", filled(1), geometry={"affine": torch.eye(4), "shape": (6, 6, 4), "slice": np.int64(3)})
    store.commit("slice")
    stored = store.read_stored("a")
    assert stored is not None
    assert stored.header["geometry"] == {"affine": np.eye(4).tolist(), "shape": [6, 6, 4], "slice": 3}


# ---------------------------------------- errors


def test_root_inside_the_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for root in (tmp_path / "data", tmp_path / "data" / "sub" / "store", tmp_path / "link" / "store"):
        with pytest.raises(ValueError, match="must stay untouched"):
            LabelStore(root, dataset_dir=tmp_path / "data")
    LabelStore(tmp_path / "data_store", dataset_dir=tmp_path / "data")


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        LabelStore(tmp_path / "file")


@pytest.mark.parametrize("label", [[[0.5, 1.0]], [[-1, 0]], [[256, 0]], [[np.nan, 0.0]], [[np.inf, 0.0]]])
def test_labels_that_are_none_are_refused(store: LabelStore, label: list) -> None:
    with pytest.raises(ValueError, match=r"label of case 'a' must hold whole numbers from 0 to 255"):
        store.propose("a", label)
    assert store.staged() == []


def test_wrong_arguments_name_the_case(store: LabelStore) -> None:
    with pytest.raises(ValueError, match="needs a channel axis and spatial axes"):
        store.propose("a", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"Case 'a': the label has shape \(1, 6, 6\), its reference \(1, 5, 5\)"):
        store.propose("a", filled(1), reference=filled(1, size=5))
    with pytest.raises(TypeError, match=r"facts of case 'a' cannot be written as JSON.*object"):
        store.propose("a", filled(1), loss=object())
    with pytest.raises(ValueError, match="must not be empty"):
        store.propose("", filled(1))
    with pytest.raises(TypeError, match="A case id is a string, got 3"):
        store.read(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="why must not be empty"):
        store.commit(" ")
    with pytest.raises(TypeError, match="parameters of the round cannot be written"):
        store.commit("x", parameters={"net": torch.nn.ReLU()})
    assert store.round == 0


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"affine": np.eye(4)}, "needs 'affine', 'shape'"),
        ({"affine": np.eye(4), "shape": (6, 6), "origin": 0}, "needs 'affine', 'shape'"),
        ({"affine": np.eye(4), "shape": (6, 5)}, "does not fit the label"),
        ({"affine": np.eye(4), "shape": (6, 6, 4)}, "does not fit the label"),
        ({"affine": np.eye(4), "shape": (6, 6), "slice": 0}, "does not fit the slice"),
        ({"affine": np.eye(4), "shape": (6, 6, 4), "slice": 4}, "slice 4 lies outside the 4 slices"),
        ({"affine": np.zeros((4, 4)), "shape": (6, 6)}, "invertible"),
        ({"affine": np.full((4, 4), np.nan), "shape": (6, 6)}, "invertible"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(store: LabelStore, geometry: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.propose("a", filled(1), geometry=geometry)


def test_rounds_that_do_not_exist(store: LabelStore) -> None:
    commit_round(store, 1)
    for call in (store.record, store.rewind, lambda number: store.read("a", number)):
        for number in (2, -1):
            with pytest.raises(ValueError, match=f"has no round {number}: its newest is 1"):
                call(number)
    with pytest.raises(ValueError, match="has no round 0"):
        store.record(0)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_damaged_label_file_is_named(store: LabelStore, damage: str) -> None:
    commit_round(store, 1)
    commit_round(store, 2, ("a",))
    path = store.root / "rounds" / "0001" / (file_stem("b/001") + ".label")
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
        store = LabelStore(store.root)  # a file that is gone before the index is made is found by verify only
    else:
        data[len(data) // 2] ^= 16
        path.write_bytes({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
        with pytest.raises(CorruptLabelError, match=r"b%2F001.label \(case 'b/001', round 1\).*rewind"):
            store.read("b/001")
    assert store.read("a") is not None
    with pytest.raises(CorruptLabelError, match=r"b%2F001.label \(case 'b/001'\) is (not what was committed|missing)"):
        store.verify()


def test_file_removed_under_a_running_reader(store: LabelStore) -> None:
    commit_round(store, 1)
    store.read("a")
    (store.root / "rounds" / "0001" / "a.label").unlink()
    with pytest.raises(CorruptLabelError, match=r"case 'a', round 1\) is missing.*backup"):
        store.read("a")


def test_verify_finds_altered_records_and_foreign_files(store: LabelStore) -> None:
    commit_round(store, 1)
    commit_round(store, 2)
    assert store.verify() == 2
    record = store.root / "rounds" / "0001" / "record.json"
    text = record.read_text()
    record.write_text(text.replace("round of 1", "round of 9"))
    with pytest.raises(CorruptLabelError, match=r"0001/record.json was altered after round 2"):
        store.verify()
    record.write_text(text[:-30])
    with pytest.raises(CorruptLabelError, match=r"0001/record.json cannot be read"):
        LabelStore(store.root).verify()
    with pytest.raises(CorruptLabelError, match="cannot be read"):
        LabelStore(store.root).record(1)
    record.write_text(text)
    (record.parent / "extra.label").write_bytes(b"")
    with pytest.raises(CorruptLabelError, match=r"extra.label does not belong to the round"):
        store.verify()
    (record.parent / "extra.label").unlink()
    shutil.rmtree(store.root / "rounds" / "0001")
    with pytest.raises(CorruptLabelError, match=r"0001/record.json cannot be read"):
        store.verify()


def test_damaged_proposal_is_not_committed(store: LabelStore) -> None:
    store.propose("a", filled(1))
    path = store.root / "staging" / "0001" / "a.label"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptLabelError, match=r"staging/0001/a.label is not a complete label file"):
        store.commit("x")
    assert store.round == 0


def test_second_committer_is_told(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = LabelStore(store.root)
    store.propose("a", filled(1))
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        other.commit("the other process")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(RuntimeError, match="Another process committed round 1"):
        store.commit("mine")
    assert store.record(1)["why"] == "the other process"


def test_proposal_during_a_commit_is_not_lost_silently(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = LabelStore(store.root)
    store.propose("a", filled(1))
    replace = os.replace

    def late(source: Path, target: Path) -> None:
        other.commit("meanwhile")
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(RuntimeError, match="'b' was not staged: another process committed"):
        store.propose("b", filled(1))


# ---------------------------------------- rewind


def test_rewind_drops_later_rounds_and_leftovers(store: LabelStore) -> None:
    for value in (1, 2, 3, 4):
        commit_round(store, value, ("a",))
    store.propose("b", filled(9))
    (store.root / "staging" / "unfinished").write_bytes(b"torn")
    store.rewind(2)
    assert store.round == 2
    assert store.staged() == []
    np.testing.assert_array_equal(store.read("a"), filled(2))
    note = json.loads((store.root / "audit.jsonl").read_text())
    assert (note["event"], note["to"]) == ("rewind", 2)
    assert [(dropped["round"], dropped["why"]) for dropped in note["dropped"]] == [
        (3, "round of 3"),
        (4, "round of 4"),
    ]
    assert files_under(store.root) == {"audit.jsonl"} | {
        f"rounds/{number:04d}/{name}" for number in (1, 2) for name in ("a.label", "record.json")
    }
    assert commit_round(store, 5, ("a",)) == 3
    np.testing.assert_array_equal(store.read("a"), filled(5))
    assert [entry["why"] for entry in store.history("a")] == ["round of 1", "round of 2", "round of 5"]
    assert store.verify() == 3


def test_rewind_to_the_newest_round_is_not_noted(store: LabelStore) -> None:
    store.rewind(0)
    commit_round(store, 1)
    store.rewind(np.int64(1))
    assert store.round == 1
    assert not (store.root / "audit.jsonl").exists()


def test_rewind_drops_a_damaged_round(store: LabelStore) -> None:
    commit_round(store, 1)
    (store.root / "rounds" / "0001" / "record.json").write_text("{")
    store.rewind(0)
    assert store.round == 0
    assert "cannot be read" in (store.root / "audit.jsonl").read_text()


def test_another_reader_follows_rewind_and_recommit(store: LabelStore) -> None:
    # Round 2 is dropped and made anew between two reads, faster than the clock of the file system ticks.
    reader = LabelStore(store.root)
    commit_round(store, 1)
    for value in range(2, 40):
        commit_round(store, value, ("a",) if value % 2 else ("b/001",))
        np.testing.assert_array_equal(reader.read("a" if value % 2 else "b/001"), filled(value))
        np.testing.assert_array_equal(reader.read("b/001" if value % 2 else "a"), filled(1))
        assert reader.history("a")[-1]["why"] == ("round of 1" if value % 2 == 0 else f"round of {value}")
        store.rewind(1)


def test_rounds_folder_tells_changes_apart_by_the_nanosecond(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # File systems step their own clock every few milliseconds, in which a round can be dropped and made anew.
    for moment, change in (
        (10**18 + 1, lambda: commit_round(store, 1)),
        (10**18 + 2, lambda: store.rewind(0)),
        (10**18 + 3, lambda: commit_round(store, 2)),
    ):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        change()
        assert os.stat(store.root / "rounds").st_mtime_ns == moment
    assert os.stat(store.root / "rounds" / "0001").st_mtime_ns == moment


def test_read_survives_a_rewind_between_index_and_file(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_round(store, 1)
    commit_round(store, 2)
    reader, read_bytes = LabelStore(store.root), Path.read_bytes

    def rewind_first(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        store.rewind(1)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", rewind_first)
    np.testing.assert_array_equal(reader.read("a"), filled(1))


# ---------------------------------------- processes


def test_reading_again_lists_nothing(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_round(store, 1)
    store.read("a")

    def forbidden(*args: object) -> None:
        raise AssertionError("the rounds folder was listed again")

    monkeypatch.setattr(os, "scandir", forbidden)
    monkeypatch.setattr(os, "listdir", forbidden)
    np.testing.assert_array_equal(store.read("a"), filled(1))


def test_only_new_rounds_are_listed(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_round(store, 1)
    store.read("a")
    commit_round(LabelStore(store.root), 2)
    listed, listdir = [], os.listdir

    def listing(path: Path) -> list[str]:
        listed.append(Path(path).name)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", listing)
    np.testing.assert_array_equal(store.read("a"), filled(2))
    assert listed == ["0002"]


def test_pickled_store_looks_for_itself(store: LabelStore, tmp_path: Path) -> None:
    commit_round(store, 1)
    other = pickle.loads(pickle.dumps(LabelStore(store.root, dataset_dir=tmp_path / "data")))
    assert other.dataset_dir == tmp_path / "data"
    np.testing.assert_array_equal(other.read("a"), filled(1))
    assert len(pickle.dumps(store)) < 500


def _propose_many(root: Path, cases: list[str], value: int) -> None:
    store = LabelStore(root)
    for case in cases:
        store.propose(case, filled(value))


def test_several_processes_stage_one_round(store: LabelStore) -> None:
    workers = [
        FORK.Process(target=_propose_many, args=(store.root, [f"{rank}/{i:03d}" for i in range(40)], rank))
        for rank in (1, 2, 3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store.commit("three ranks")
    assert len(store.record(1)["cases"]) == 120
    for rank in (1, 2, 3):
        np.testing.assert_array_equal(store.read(f"{rank}/039"), filled(rank))


def _watch(store: LabelStore, ready: object, results: object, until: int) -> None:
    store.read("a")
    ready.set()
    seen, deadline = [], time.monotonic() + 20
    while time.monotonic() < deadline and (not seen or seen[-1] < until):
        newest = store.round
        values = {None if (label := store.read(case, newest)) is None else int(label.max()) for case in CASES}
        assert values == {newest or None}, f"round {newest} seen half: {values}"
        assert newest >= (seen[-1] if seen else 0)
        seen.append(newest)
    results.put(seen[-1])


def test_forked_reader_sees_new_rounds_whole(store: LabelStore) -> None:
    # A big label first, so that the compressor's threads exist in the parent before it forks.
    store.propose("big", np.zeros((1, 128, 128, 128), np.uint8))
    store.discard()
    commit_round(store, 1)
    ready, results = FORK.Event(), FORK.Queue()
    worker = FORK.Process(target=_watch, args=(store, ready, results, 12))
    worker.start()
    assert ready.wait(10)
    for value in range(2, 13):
        commit_round(store, value)
    assert results.get(timeout=20) == 12
    worker.join(10)
    assert worker.exitcode == 0


# ---------------------------------------- kills

STEPS = ("replace", "rename", "fsync", "unlink", "utime", "mkdir", "rmdir")


def _killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run an action in a forked process that dies of SIGKILL before its ``step``-th change of the disk."""

    def run() -> None:
        calls = iter(range(step))
        for name in STEPS:
            original = getattr(os, name)

            def counted(*args: object, original: Callable = original, **kwargs: object) -> object:
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            setattr(os, name, counted)
        action()
        os._exit(0)

    child = FORK.Process(target=run)
    child.start()
    child.join(20)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def test_killed_anywhere_in_a_commit(store: LabelStore) -> None:
    commit_round(store, 1)
    step, rounds = 0, []
    while True:
        killed = _killed_at(step, lambda: commit_round(store, 2))
        rounds.append(store.round)
        for reader in (store, LabelStore(store.root)):
            assert {int(reader.read(case).max()) for case in CASES} == {store.round}
        assert store.verify() == store.round
        store.rewind(1)
        assert commit_round(store, 7) == 2  # whatever the killed process left, the store goes on
        assert {int(store.read(case).max()) for case in CASES} == {7}
        store.rewind(1)
        assert files_under(store.root / "staging") | files_under(store.root / "dropped") == set()
        if not killed:
            break
        step += 1
    assert step > 12
    assert sorted(rounds) == rounds, "once visible, a round stays visible"
    assert set(rounds[:-1]) == {1, 2}, "kills before and after the round became visible were tried"


def test_killed_commit_can_be_repeated(store: LabelStore) -> None:
    commit_round(store, 1)
    step = 0
    while _killed_at(step, lambda: (store.propose("a", filled(2)), store.commit("second"))):
        if store.round == 1:  # as a new process would, without rewinding
            store.propose("a", filled(2))
            store.commit("second")
        assert store.verify() == 2
        assert set(store.record(2)["cases"]) == {"a"}
        store.rewind(1)
        step += 1


def test_killed_anywhere_in_a_rewind(store: LabelStore) -> None:
    step = 0
    while True:
        for value in range(store.round + 1, 4):
            commit_round(store, value, CASES[:2])
        store.propose("leftover", filled(9))
        killed = _killed_at(step, lambda: store.rewind(1))
        assert 1 <= store.verify() <= 3
        assert {int(store.read(case).max()) for case in CASES[:2]} == {store.round}
        store.rewind(1)
        assert store.round == 1
        assert store.staged() == []
        assert not (store.root / "dropped").exists()
        for line in (store.root / "audit.jsonl").read_text().splitlines():
            assert json.loads(line)["event"] == "rewind"
        if not killed:
            break
        step += 1
    assert step > 12


def _commit_for_ever(root: Path) -> None:
    store = LabelStore(root)
    while True:
        commit_round(store, store.round % 200 + 1)


def test_killed_at_random_moments(store: LabelStore) -> None:
    moments = random.Random(0)
    for _ in range(8):
        before = store.round
        child = FORK.Process(target=_commit_for_ever, args=(store.root,))
        child.start()
        time.sleep(0.05 + 0.1 * moments.random())
        os.kill(child.pid, signal.SIGKILL)
        child.join(10)
        newest = store.verify()
        assert newest >= before
        for number in range(max(before, 1), newest + 1):
            assert {int(store.read(case, number).max()) for case in CASES} == {(number - 1) % 200 + 1}
    assert store.round > 8
    with contextlib.suppress(FileNotFoundError):
        assert set(os.listdir(store.root)) <= {"rounds", "staging"}
    store.rewind(store.round)
    assert set(os.listdir(store.root)) == {"rounds"}


# ---------------------------------------- codec


def test_as_label_keeps_uint8_untouched() -> None:
    label = filled(3)
    assert as_label(label, "x") is label


def test_json_of_what_methods_report() -> None:
    facts = {"path": Path("a/b"), "array": np.arange(3), "tensor": torch.ones(2), "none": None}
    assert json.loads(to_json(facts, "x")) == {
        "path": "a/b",
        "array": [0, 1, 2],
        "tensor": [1.0, 1.0],
        "none": None,
    }
