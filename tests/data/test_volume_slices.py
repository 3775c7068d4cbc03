"""Slices of volumes: the values of direct slicing, one reading per volume, nothing shared by accident."""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_files import manifest, write_volume
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch

from monai_noisylabel.data import read_case
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.preprocess import preprocessing
from monai_noisylabel.data.volume_slices import VolumeSlices

RECIPE = {
    "window": [0, 1000],
    "normalise": "window",
    "crop": {"size": [6, 4], "centre": "label"},
    "size": [3, 4],
}


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    """Two volumes, every voxel with a value of its own, stored with the slices from top to bottom."""
    items = []
    for case in ("a", "b"):
        values = np.arange(8 * 6 * 4, dtype=np.int16).reshape(8, 6, 4) + (500 if case == "b" else 0)
        label = np.zeros((8, 6, 4), np.uint8)
        label[3:6, 2:4, 1:3] = 1
        for kind, array in (("image", values), ("label", label)):
            write_volume(tmp_path / f"{kind}s" / f"{case}.nii.gz", array, np.diag([-2.0, -2.0, -5.0, 1.0]))
        files = {kind: str(tmp_path / f"{kind}s" / f"{case}.nii.gz") for kind in ("image", "label")}
        items += [{**files, "case": f"{case}/{k:03d}", "patient": case, "slice": k, "volume": case} for k in range(4)]
    made = manifest(spatial_dims=2, classes={"liver": 1}, preprocessing=RECIPE)
    return DatasetSpec(made, tmp_path, ("liver",), 2, items, [], [])


class Volumes:
    """Stands for a preprocessing: 2 x 2 x 3 voxels of the number in the file name; counts the readings."""

    def __init__(self, wait: float = 0.0) -> None:
        self.read: Counter[str] = Counter()
        self.wait = wait

    def __call__(self, data: dict[Any, Any]) -> dict[Any, Any]:
        self.read[data["image"]] += 1
        time.sleep(self.wait)
        if data["image"] == "bad":
            raise ValueError("bad: cannot be read")
        return {"image": MetaTensor(torch.full((1, 2, 2, 3), float(data["image"])) + torch.arange(3))}


def item(name: object, number: int = 0) -> dict[Any, Any]:
    return {"image": str(name), "slice": number}


def test_slices_agree_with_the_volume(spec: DatasetSpec) -> None:
    transform = preprocessing(spec)
    whole = {key: value for key, value in spec.train[0].items() if key != "slice"}
    volume = transform(whole)
    assert volume["image"].shape == (1, 3, 4, 4)
    for k in range(4):
        cut = transform(spec.train[k])
        for key in ("image", "label"):
            assert torch.equal(cut[key].as_tensor(), volume[key].as_tensor()[..., k])
            assert cut[key].dtype == volume[key].dtype
            np.testing.assert_array_equal(cut[key].affine, volume[key].affine)
            assert cut[key].affine.shape == (4, 4)
            assert cut[key].meta["slice"] == k
            assert cut[key].meta["volume_shape"] == [3, 4, 4]
            assert cut[key].meta["filename_or_obj"] == spec.train[k][key]
        assert cut["case"] == f"a/{k:03d}"
        assert cut["patient"] == "a"


def test_slice_numbers_count_along_the_oriented_axis(spec: DatasetSpec) -> None:
    # The file runs towards L, P and I; towards RAS all axes turn round. The label's centre of mass, (4, 2.5)
    # in the file, is (3, 2.5) then: the crop takes 0:6 and 1:5, of which pairs are averaged.
    cut = preprocessing(spec)(spec.train[0])
    values = np.arange(8 * 6 * 4).reshape(8, 6, 4)[::-1, ::-1, ::-1][0:6, 1:5, 0]
    np.testing.assert_allclose(cut["image"][0] * 1000, values.reshape(3, 2, 4).mean(1), atol=1e-3)


def test_a_volume_is_read_once_in_any_order(spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()
    read = read_case.read_image

    def counted(path: str, *options: Any) -> MetaTensor:
        reads[Path(path).name] += 1
        return read(path, *options)

    monkeypatch.setattr(read_case, "read_image", counted)
    shuffled = [spec.train[k] for k in (0, 5, 2, 7, 1, 4, 3, 6)]
    data = CacheDataset(shuffled, preprocessing(spec), num_workers=4, progress=False)
    assert len(data) == 8
    assert reads == {"a.nii.gz": 1, "b.nii.gz": 1}


def test_slices_of_different_volumes_share_a_batch(spec: DatasetSpec) -> None:
    data = CacheDataset([spec.train[1], spec.train[6]], preprocessing(spec), progress=False)
    batch = next(iter(DataLoader(data, batch_size=2)))
    assert batch["image"].shape == (2, 1, 3, 4)
    assert batch["case"] == ["a/001", "b/002"]
    one, two = decollate_batch(batch)
    assert int(one["label"].meta["slice"]) == 1
    assert int(two["label"].meta["slice"]) == 2
    assert [int(n) for n in two["label"].meta["volume_shape"]] == [3, 4, 4]


def test_a_slice_is_a_copy() -> None:
    slices = VolumeSlices(Volumes(), keys=("image",))
    slices(item(5))["image"].fill_(-1)
    again = slices(item(5))["image"]
    assert again.unique().tolist() == [5]
    assert again.untyped_storage().nbytes() == again.nbytes, "a view would keep the volume in memory"


def test_the_least_recently_used_volume_leaves() -> None:
    volumes = Volumes()
    slices = VolumeSlices(volumes, keys=("image",), max_bytes=2 * 48)  # two volumes of 12 float32 voxels
    for name in (1, 2, 1, 3, 1, 2):
        slices(item(name))
    assert volumes.read == {"1": 1, "2": 2, "3": 1}


def test_the_latest_volume_is_kept_however_large() -> None:
    volumes = Volumes()
    slices = VolumeSlices(volumes, keys=("image",), max_bytes=0)
    for number in range(3):
        assert slices(item(1, number))["image"].unique().tolist() == [1 + number]
    assert volumes.read == {"1": 1}


def test_threads_wait_for_one_reading() -> None:
    volumes = Volumes(wait=0.05)
    slices = VolumeSlices(volumes, keys=("image",))
    found: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda k=k: found.append(slices(item(4, k))["image"].unique().tolist()))
        for k in (0, 1, 2, 0)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[4], [4], [5], [6]]
    assert volumes.read == {"4": 1}


def test_a_failed_reading_is_tried_again() -> None:
    volumes = Volumes()
    slices = VolumeSlices(volumes, keys=("image",))
    for _ in range(2):
        with pytest.raises(ValueError, match="bad: cannot be read"):
            slices(item("bad"))
    assert volumes.read == {"bad": 2}


def test_a_whole_volume_is_not_kept() -> None:
    volumes = Volumes()
    slices = VolumeSlices(volumes, keys=("image",))
    for _ in range(2):
        assert slices({"image": "7", "patient": "p"})["image"].shape == (1, 2, 2, 3)
    assert volumes.read == {"7": 2}


@pytest.mark.parametrize("number", [3, -1])
def test_slice_outside_the_volume(number: int) -> None:
    with pytest.raises(ValueError, match=rf"9: slice {number} was asked for, but the training grid has slices 0..2"):
        VolumeSlices(Volumes(), keys=("image",))(item(9, number))


def test_slice_of_a_picture() -> None:
    picture = VolumeSlices(lambda data: {"image": MetaTensor(torch.zeros(1, 4, 4))}, keys=("image",))
    with pytest.raises(ValueError, match=r"x.png: slice 0 was asked for, but this is no volume"):
        picture(item("x.png"))


def test_pickled_for_worker_processes() -> None:
    slices = VolumeSlices(Volumes(), keys=("image",))
    slices(item(5))
    sent = pickle.loads(pickle.dumps(slices))
    assert sent(item(5, 2))["image"].unique().tolist() == [7]
    assert sent.volume_transform.read == {"5": 2}, "a copy starts without volumes"
