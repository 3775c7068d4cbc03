"""Superpixels follow edges, are about as large as asked, the same every time, and kept on disk when told to."""

from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, RandAffined, RandFlipd

from monai_noisylabel.transforms import Superpixels, Superpixelsd


def discs(shape: tuple[int, ...], contrast: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """An image (1, *S) of a ball on a slope with a little noise, and the mask (*S) of the ball."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = sum(axis**2 for axis in axes) < 0.45
    noise = np.random.default_rng(0).normal(0, 0.03, shape)
    return (0.3 * axes[0] + contrast * mask + noise)[None].astype(np.float32), mask


def majority_dice(ids: torch.Tensor, mask: np.ndarray) -> float:
    """Dice of a mask to itself after every superpixel has taken the value of most of its voxels."""
    flat, inside = ids.numpy().ravel(), mask.ravel()
    majority = (np.bincount(flat, weights=inside) > np.bincount(flat) / 2)[flat]
    return 2 * (majority & inside).sum() / (majority.sum() + inside.sum())


@pytest.mark.parametrize("shape", [(48, 40), (24, 20, 22)], ids=str)
@pytest.mark.parametrize("voxels", [16, 40])
def test_superpixels_follow_edges_and_have_the_size_asked_for(shape: tuple[int, ...], voxels: int) -> None:
    image, mask = discs(shape)
    ids = Superpixels(voxels)(image)
    assert ids.shape == (1, *shape)
    assert ids.dtype == torch.int32
    assert int(ids.min()) == 1
    whole = round(voxels ** (1 / len(shape))) ** len(shape)  # a seed every so many voxels
    assert image.size / len(ids.unique()) == pytest.approx(whole, rel=0.25)
    assert majority_dice(ids, mask) > 0.98
    # without contrast they are a grid that does not know of the ball
    plain = Superpixels(voxels)(np.zeros_like(image))
    assert majority_dice(plain, mask) < majority_dice(ids, mask) - 0.01


def test_intensities_count_by_their_range() -> None:
    image, mask = discs((48, 40))
    ids = Superpixels()(image)
    assert torch.equal(Superpixels()(1000 * image.astype(np.float64) - 50), ids)
    outlier = image.copy()
    outlier[0, 0, 0] = 1e6
    assert majority_dice(Superpixels()(outlier), mask) > 0.98
    assert not torch.equal(Superpixels(compactness=1000)(image), ids)


def test_compactness_is_in_hundredths_of_the_range() -> None:
    # An edge of the full range crosses a grid of 10x10 squares: 2 in a distance of 10 / C, that is against C = 10
    # ten squares, wins over the grid; against C = 10000 it loses.
    image = np.zeros((1, 40, 40), np.float32)
    image[..., 13:] = 1
    mask = image[0] > 0
    assert majority_dice(Superpixels(100, compactness=10)(image), mask) == 1
    assert majority_dice(Superpixels(100, compactness=10_000)(image), mask) < 0.97


def test_colours_are_compared_as_seen() -> None:
    # two colours of equal mean and equal range in each channel, only one of which the eye tells from the background
    image = np.full((3, 40, 40), 0.5, np.float32)
    image[:, :, 13:] = np.array([0.75, 0.25, 0.5], np.float32)[:, None, None]
    mask = image[0] > 0.6
    for picture in (image, 255 * image):
        assert majority_dice(Superpixels(100)(picture), mask) > 0.99
    # cyan with a third of red, which the eye hardly tells from cyan
    cyan = np.ones((3, 40, 40), np.float32)
    cyan[0] = 0
    cyan[0, :, 13:] = 0.3
    assert majority_dice(Superpixels(100)(cyan), mask) < 0.97
    lightness = np.full((3, 40, 40), 0.5, np.float32)
    lightness[:, :, 13:] += np.array([0.02, 0.02, 0.02], np.float32)[:, None, None]
    as_colour = Superpixels(100, compactness=40)(lightness)
    as_channels = Superpixels(100, compactness=40, colour=False)(lightness)
    # 2 of 100 in lightness is little; stretched to the range of the image it is all
    assert majority_dice(as_colour, mask) < 0.97 < majority_dice(as_channels, mask)


def test_features_show_edges_that_the_image_has_not() -> None:
    image, mask = discs((48, 40), contrast=0.0)
    features = np.stack([mask, ~mask]).astype(np.float32) * 7
    assert majority_dice(Superpixels()(image, features), mask) > majority_dice(Superpixels()(image), mask) + 0.01
    assert torch.equal(Superpixels()(image, features[:1].repeat(4, 0)), Superpixels()(image, features[:1]))
    assert torch.equal(Superpixels(feature_weight=0)(image, features), Superpixels()(image))


def extents(ids: torch.Tensor) -> np.ndarray:
    """Mean length of the superpixels along each axis in voxels."""
    boxes = []
    for number in ids.unique():
        places = (ids[0] == number).nonzero().numpy()
        boxes.append(places.max(0) - places.min(0) + 1)
    return np.mean(boxes, 0)


def test_supervoxels_are_as_long_along_thick_slices_as_across_them() -> None:
    image = np.random.default_rng(0).normal(size=(1, 24, 24, 8)).astype(np.float32)
    along = extents(Superpixels(64, compactness=1e6)(image, spacing=(1.0, 1.0, 4.0)))
    # 64 voxels of 4 mm: a cube of 6.3 mm, 1.6 slices
    assert along[:2] == pytest.approx([6.3, 6.3], rel=0.3)
    assert along[2] == pytest.approx(1.6, rel=0.3)
    assert extents(Superpixels(64, compactness=1e6)(image))[2] == pytest.approx(4, rel=0.1)
    affine = torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0]))
    sample = {"image": MetaTensor(image, affine=affine)}
    by_affine = Superpixelsd("image", 64, compactness=1e6)(sample)["superpixels"]
    assert torch.equal(by_affine.as_tensor(), Superpixels(64, compactness=1e6)(image, spacing=(2.0, 2.0, 8.0)))


def test_pixels_of_slices_are_square_whatever_the_affine() -> None:
    image = discs((24, 20))[0]
    affine = torch.diag(torch.tensor([1.0, 3.0, 4.0, 1.0]))
    sample = Superpixelsd()({"image": MetaTensor(image, affine=affine)})
    assert torch.equal(sample["superpixels"].as_tensor(), Superpixels()(image))


def _compute(image: np.ndarray) -> np.ndarray:
    return Superpixels()(image).numpy()


def test_the_same_every_time_in_every_process() -> None:
    image = discs((24, 20, 22))[0]
    here = _compute(image)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for there in pool.map(_compute, [image, image]):
            np.testing.assert_array_equal(there, here)


def test_metadata_of_the_image_go_with_them_and_nothing_is_changed() -> None:
    image = MetaTensor(discs((24, 20))[0], affine=2 * torch.eye(4), meta={"filename_or_obj": "a.png"})
    given = {"image": image, "case": "a", "label": image > 0.5}
    before = image.clone()
    sample = Superpixelsd()(given)
    found = sample["superpixels"]
    assert isinstance(found, MetaTensor)
    assert found.meta["filename_or_obj"] == "a.png"
    found.affine[0, 0] = 9
    assert image.affine[0, 0] == 2
    assert torch.equal(image, before)
    assert "superpixels" not in given
    assert type(Superpixels()(np.asarray(image))) is torch.Tensor


def test_augmentation_moves_them_with_the_label() -> None:
    mask = discs((24, 20))[1]
    ids = Superpixels()(discs((24, 20))[0])
    keys = ["label", "superpixels"]
    steps = Compose(
        [
            RandFlipd(keys, prob=1.0, spatial_axis=0),
            RandAffined(keys, prob=1.0, rotate_range=0.3, mode="nearest", padding_mode="zeros"),
        ]
    ).set_random_state(0)
    # a label that is constant on every superpixel stays so
    constant = torch.from_numpy(np.random.default_rng(1).integers(1, 4, int(ids.max()) + 1))[ids.long()]
    moved = steps({"label": MetaTensor(constant), "superpixels": MetaTensor(ids)})
    assert not torch.equal(moved["superpixels"].as_tensor(), ids.float())
    for number in moved["superpixels"].unique():
        assert len(moved["label"][moved["superpixels"] == number].unique()) == 1
    outside = moved["label"] == 0
    assert outside.any()
    assert torch.equal(moved["superpixels"] == 0, outside), "padding is 0, which no superpixel is"
    assert mask.any()


# ---------------------------------------- kept on disk and in memory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever SLIC runs."""
    made: list[int] = []
    slic = Superpixels._slic
    monkeypatch.setattr(Superpixels, "_slic", lambda *arguments: made.append(1) or slic(*arguments))
    return made


def test_kept_by_content_and_settings(tmp_path: Path, calls: list[int]) -> None:
    image = discs((24, 20))[0]
    plain = Superpixels()(image)
    kept = Superpixels(cache_dir=tmp_path / "new" / "folder")
    assert torch.equal(kept(image), plain)
    assert len(calls) == 2
    assert torch.equal(kept(image.copy()), plain)
    assert torch.equal(kept(torch.from_numpy(image)), plain)
    again = Superpixels(cache_dir=str(tmp_path / "new" / "folder"))(image)
    assert again.dtype == torch.int32
    assert torch.equal(again, plain)
    assert len(calls) == 2
    other = [
        lambda: kept(image + 1),
        lambda: kept(image, image),
        lambda: kept(image.reshape(1, 20, 24)),
        lambda: kept(image, spacing=(1, 2)),
        lambda: kept(image.astype(np.float64)),
        lambda: Superpixels(30, cache_dir=kept.cache.folder)(image),
        lambda: Superpixels(compactness=3, cache_dir=kept.cache.folder)(image),
    ]
    for number, make in enumerate(other, start=3):
        make()
        assert len(calls) == number
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1 + len(other)
    assert [path for path in (tmp_path / "new" / "folder").iterdir() if path.suffix != ".npy"] == []


def test_a_damaged_file_is_made_anew(tmp_path: Path, calls: list[int]) -> None:
    image = discs((24, 20))[0]
    transform = Superpixels(cache_dir=tmp_path)
    ids = transform(image)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-7], b"not an array"):
        path.write_bytes(damaged)
        assert torch.equal(transform(image), ids)
        assert path.read_bytes() == whole
    assert len(calls) == 5


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    image = discs((24, 20))[0]
    with caplog.at_level(logging.WARNING):
        ids = Superpixels(cache_dir=tmp_path / "file")(image)
    assert torch.equal(ids, Superpixels()(image))
    assert "cannot be kept" in caplog.text


def test_workers_share_a_folder(tmp_path: Path) -> None:
    image = discs((24, 20))[0]
    items = [{"image": torch.from_numpy(image), "case": str(n)} for n in range(8)]
    dataset = CacheDataset(items, Compose([Superpixelsd(cache_dir=tmp_path)]), cache_rate=0.0)
    batches = list(DataLoader(dataset, batch_size=2, num_workers=4))
    assert all(torch.equal(batch["superpixels"][0], Superpixels()(image)) for batch in batches)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cached_dataset_computes_once(calls: list[int]) -> None:
    items = [{"image": torch.from_numpy(discs((24, 20))[0])} for _ in range(3)]
    steps = Compose([Superpixelsd(), RandFlipd(["image", "superpixels"], prob=0.5)])
    dataset = CacheDataset(items, steps, progress=False, num_workers=1)
    for _ in range(2):
        assert len([dataset[index] for index in range(3)]) == 3
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"voxels_per_superpixel": 0}, "voxels_per_superpixel must be positive, got 0"),
        ({"compactness": -1}, "compactness must be positive, got -1"),
        ({"compactness": float("nan")}, "compactness must be positive, got nan"),
        ({"feature_weight": -0.5}, "feature_weight must not be negative, got -0.5"),
        ({"keys": ["image", "label"]}, r"one image, got the keys \['image', 'label'\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Superpixelsd(**settings)


def test_images_that_cannot_be_used_are_refused() -> None:
    image = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"2 or 3 axes of space, got \(8, 8\)"):
        Superpixels()(image[0])
    with pytest.raises(ValueError, match=r"Image \(1, 8, 8\) and features \(2, 4, 8\) do not lie on the same grid"):
        Superpixels()(image, np.zeros((2, 4, 8)))
    with pytest.raises(ValueError, match=r"spacing must give 2 positive voxel sizes, got \[1, 1, 1\]"):
        Superpixels()(image, spacing=(1, 1, 1))
    with pytest.raises(ValueError, match="spacing must give 2 positive voxel sizes"):
        Superpixels()(image, spacing=(1, 0))
    image[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Case 'a': the image or its features hold NaN or infinity"):
        Superpixelsd()({"image": image, "case": "a"})
    with pytest.raises(KeyError, match="image"):
        Superpixelsd()({"case": "a"})
    assert Superpixelsd(allow_missing_keys=True)({"case": "a"}) == {"case": "a"}


def test_features_by_key() -> None:
    image, mask = discs((24, 20), contrast=0.0)
    sample = {"image": torch.from_numpy(image), "prob": torch.from_numpy(mask[None].astype(np.float32))}
    found = Superpixelsd(feature_keys="prob", feature_weight=2.0)(sample)["superpixels"]
    assert torch.equal(found, Superpixels(feature_weight=2.0)(image, mask[None].astype(np.float32)))
    both = Superpixelsd(feature_keys=["prob", "image"])(sample)["superpixels"]
    assert torch.equal(both, Superpixels()(image, np.concatenate([mask[None], image]).astype(np.float32)))


def test_cache_settings_can_be_written() -> None:
    assert json.loads(json.dumps(Superpixels(colour=True).settings))["colour"] is True
