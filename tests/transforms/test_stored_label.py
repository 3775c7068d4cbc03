from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor, PersistentDataset
from monai.transforms import Compose, Lambdad, RandFlipd, RandRotate90d
from monai.transforms.traits import RandomizableTrait

from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.transforms.stored_label import LoadStoredLabeld

SHAPE = (1, 4, 4)
CASES = ["a", "b", "c/000", "c/001"]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "store")


def commit_round(store: LabelStore, value: int) -> None:
    for case in CASES[1:]:
        store.propose(case, np.full(SHAPE, value, np.uint8))
    store.commit(f"value {value}")


def sample(case: str = "a") -> dict:
    label = MetaTensor(torch.full(SHAPE, 3.0), affine=2 * torch.eye(4), meta={"filename_or_obj": f"{case}.nii.gz"})
    return {"label": label, "case": case}


def test_stored_label_with_the_metadata_of_the_given_one(store: LabelStore) -> None:
    commit_round(store, 2)
    given = sample("b")
    result = LoadStoredLabeld("label", store)(given)
    stored = result["pseudo_label"]
    assert isinstance(stored, MetaTensor)
    assert stored.dtype == torch.uint8
    assert stored.shape == SHAPE
    assert stored.unique().tolist() == [2]
    torch.testing.assert_close(stored.affine, 2 * torch.eye(4, dtype=torch.float64))
    assert stored.meta["filename_or_obj"] == "b.nii.gz"
    stored.meta["filename_or_obj"] = "changed"
    stored.affine[0, 0] = 9
    assert result["label"].meta["filename_or_obj"] == "b.nii.gz"
    assert result["label"].affine[0, 0] == 2
    assert "pseudo_label" not in given


@pytest.mark.parametrize(("default", "value"), [("zeros", 0), ("label", 3)])
def test_sample_without_stored_label(store: LabelStore, default: str, value: int) -> None:
    commit_round(store, 2)
    given = sample("a")
    stored = LoadStoredLabeld("label", store.root, default=default)(given)["pseudo_label"]
    assert stored.dtype == torch.uint8
    assert stored.shape == SHAPE
    assert stored.unique().tolist() == [value]
    stored[...] = 7
    assert given["label"].unique().tolist() == [3]


def test_plain_tensor_labels(store: LabelStore) -> None:
    stored = LoadStoredLabeld("label", store)({"label": torch.ones(2, 3, 3, 3), "case": "a"})["pseudo_label"]
    assert isinstance(stored, MetaTensor)
    assert stored.shape == (2, 3, 3, 3)


def test_other_keys_and_an_older_round(store: LabelStore) -> None:
    commit_round(store, 1)
    commit_round(store, 2)
    lookup = LoadStoredLabeld("seg", store, output_key="target", case_key="id", round_of=1)
    assert lookup({"seg": torch.zeros(SHAPE), "id": "b"})["target"].unique().tolist() == [1]


def test_withdrawn_label_falls_back_to_the_default(store: LabelStore) -> None:
    commit_round(store, 1)
    store.withdraw("b")
    store.commit("withdrawn")
    assert LoadStoredLabeld("label", store, default="label")(sample("b"))["pseudo_label"].unique().tolist() == [3]


def test_spatial_transforms_after_it_move_both_labels_alike(store: LabelStore) -> None:
    label = np.arange(16, dtype=np.uint8).reshape(SHAPE)
    store.propose("b", label)
    store.commit("pattern")
    given = {"label": MetaTensor(torch.from_numpy(label.copy())), "case": "b"}
    keys = ["label", "pseudo_label"]
    steps = Compose(
        [
            LoadStoredLabeld("label", store),
            RandFlipd(keys, prob=1.0, spatial_axis=0),
            RandRotate90d(keys, prob=1.0),
        ]
    )
    result = steps(given)
    assert not torch.equal(result["label"], torch.from_numpy(label))
    assert torch.equal(result["label"].as_tensor(), result["pseudo_label"].as_tensor())
    assert torch.equal(result["label"].affine, result["pseudo_label"].affine)


def test_wrong_arguments(store: LabelStore) -> None:
    with pytest.raises(ValueError, match="exactly one label"):
        LoadStoredLabeld(["label", "image"], store)
    with pytest.raises(ValueError, match="'zeros' or 'label', got 'ones'"):
        LoadStoredLabeld("label", store, default="ones")
    with pytest.raises(KeyError, match="no case id 'case'"):
        LoadStoredLabeld("label", store)({"label": torch.zeros(SHAPE)})
    with pytest.raises(KeyError, match="label"):
        LoadStoredLabeld("label", store)({"case": "a"})
    assert LoadStoredLabeld("label", store, allow_missing_keys=True)({"case": "a"}) == {"case": "a"}
    commit_round(store, 1)
    with pytest.raises(
        ValueError, match=r"Case 'b': the stored label has shape \(1, 4, 4\), the given one \(1, 8, 8\)"
    ):
        LoadStoredLabeld("label", store)({"label": torch.zeros(1, 8, 8), "case": "b"})


def test_is_no_source_of_randomness(store: LabelStore) -> None:
    lookup = LoadStoredLabeld("label", store)
    assert isinstance(lookup, RandomizableTrait)
    assert not hasattr(lookup, "set_random_state")
    assert pickle.loads(pickle.dumps(lookup)).store.root == store.root


# ---------------------------------------- cached datasets


class CountingLoad:
    """Stands for reading; appends to a file, so that calls in worker processes are counted too."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, case: str) -> MetaTensor:
        with self.log.open("a") as log:
            log.write(json.dumps(case) + "\n")
        return MetaTensor(torch.full(SHAPE, 3.0))


def make_dataset(kind: str, store: LabelStore, tmp_path: Path) -> Dataset:
    steps = Compose(
        [
            Lambdad("label", CountingLoad(tmp_path / "loads")),
            LoadStoredLabeld("label", store),
            RandFlipd(["label", "pseudo_label"], prob=0.5),
        ]
    )
    items = [{"label": case, "case": case} for case in CASES]
    if kind == "cache":
        return CacheDataset(items, steps, progress=False)
    if kind == "persistent":
        return PersistentDataset(items, steps, cache_dir=tmp_path / "cache")
    return Dataset(items, steps)


def epoch(loader: DataLoader) -> list[int]:
    return [int(batch["pseudo_label"].max()) for batch in loader]


@pytest.mark.parametrize("kind", ["plain", "cache", "persistent"])
@pytest.mark.parametrize(("workers", "stay"), [(0, False), (2, False), (2, True)])
def test_new_round_is_seen_at_the_next_epoch(
    store: LabelStore, tmp_path: Path, kind: str, workers: int, stay: bool
) -> None:
    dataset = make_dataset(kind, store, tmp_path)
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, persistent_workers=stay)
    assert epoch(loader) == [0, 0, 0, 0]
    loads = len((tmp_path / "loads").read_text().splitlines())
    assert loads == len(CASES)
    for value in (1, 2):
        commit_round(store, value)
        assert epoch(loader) == [0, value, value, value]
    store.rewind(1)
    assert epoch(loader) == [0, 1, 1, 1]
    if kind != "plain":
        assert len((tmp_path / "loads").read_text().splitlines()) == loads, "the given labels stay cached"


@pytest.mark.parametrize("kind", ["cache", "persistent"])
def test_new_round_is_seen_at_the_next_item(store: LabelStore, tmp_path: Path, kind: str) -> None:
    dataset = make_dataset(kind, store, tmp_path)
    seen = []
    for value in (1, 2, 3):
        commit_round(store, value)
        seen.append(int(dataset[1]["pseudo_label"].max()))
    assert seen == [1, 2, 3]


@pytest.mark.slow
def test_spawned_workers_read_the_store(store: LabelStore, tmp_path: Path) -> None:
    commit_round(store, 5)
    lookup = LoadStoredLabeld("label", store)
    lookup(sample("b"))
    with torch.multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(lookup, (sample("b"),))["pseudo_label"].unique().tolist() == [5]
