"""Augmentation depends on seed, epoch and case, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Compose, Lambdad, OneOf, RandFlipd, RandGaussianNoised, RandScaleIntensityd
from monai.utils import set_determinism

from monai_noisylabel.transforms import PerCaseRandom

CASES = [f"case_{number}" for number in range(7)]


def _augment(seed: int = 0) -> PerCaseRandom:
    return PerCaseRandom([RandScaleIntensityd("image", factors=0.5, prob=1.0), RandFlipd("image", prob=0.5)], seed)


def _item(case: str) -> dict[str, Any]:
    return {"case": case, "image": torch.arange(1.0, 5.0).view(1, 2, 2)}


def _draw(augment: PerCaseRandom, case: str = "case_0") -> torch.Tensor:
    return torch.as_tensor(augment(_item(case))["image"])


def _epoch(loader: DataLoader) -> dict[str, torch.Tensor]:
    return {
        case: image for batch in loader for case, image in zip(batch["case"], batch["image"].as_tensor(), strict=True)
    }


def test_the_same_case_is_augmented_alike_whatever_came_before() -> None:
    augment, fresh = _augment(), _augment()
    first = _draw(augment)
    for case in CASES:
        _draw(augment, case)
    assert torch.equal(_draw(augment), first)
    assert torch.equal(_draw(fresh), first)


@pytest.mark.parametrize("what", ["case", "epoch", "seed"])
def test_another_case_epoch_or_seed_is_augmented_differently(what: str) -> None:
    other = _augment(seed=1 if what == "seed" else 0)
    other.epoch = 1 if what == "epoch" else 0
    assert not torch.equal(_draw(other, "case_1" if what == "case" else "case_0"), _draw(_augment()))


def test_global_seeds_make_no_difference() -> None:
    results = []
    for seed in (1, 2):
        set_determinism(seed)
        results.append(_draw(_augment()))
    set_determinism(None)
    assert torch.equal(*results)


def test_cases_and_epochs_are_spread_evenly() -> None:
    # 1000 scale factors 1 + u, u ~ U(-0.5, 0.5): mean 1, standard deviation of the mean 0.289 / sqrt(1000)
    # = 0.0091
    augment = PerCaseRandom([RandScaleIntensityd("image", factors=0.5, prob=1.0)])
    factors = []
    for augment.epoch in range(10):
        factors += [float(augment({"case": f"{i}", "image": torch.ones(1)})["image"]) for i in range(100)]
    assert len({round(factor, 9) for factor in factors}) > 990
    assert sum(factors) / 1000 == pytest.approx(1.0, abs=4 * 0.0091)


@pytest.mark.parametrize("cached", [False, True])
def test_the_number_of_workers_and_the_order_make_no_difference(cached: bool) -> None:
    steps = Compose([Lambdad("image", lambda image: image + 1), augment := _augment()])
    items = [_item(case) for case in CASES]
    dataset = CacheDataset(items, steps, progress=False) if cached else Dataset(items, steps)
    epochs: list[list[dict[str, torch.Tensor]]] = []
    for augment.epoch in (0, 1):
        runs = [(0, False, 2), (2, False, 2), (2, True, 1)]
        loaders = [DataLoader(dataset, batch_size=size, shuffle=mix, num_workers=n) for n, mix, size in runs]
        epochs.append([_epoch(loader) for loader in loaders])
    for one, two, shuffled in epochs:
        assert set(one) == set(two) == set(shuffled) == set(CASES)
        for case in CASES:
            assert torch.equal(one[case], two[case])
            assert torch.equal(one[case], shuffled[case])
    assert not torch.equal(epochs[0][0]["case_0"], epochs[1][0]["case_0"])


def test_transforms_inside_others_are_seeded_too() -> None:
    def augment() -> PerCaseRandom:
        noise = [RandGaussianNoised("image", prob=1.0, std=std) for std in (0.1, 1.0, 10.0)]
        return PerCaseRandom([Compose([OneOf(noise), Compose([RandFlipd("image", prob=0.5)])])])

    assert torch.equal(_draw(augment()), _draw(augment()))


def test_no_transforms_leave_the_item_as_it_is() -> None:
    assert torch.equal(_draw(PerCaseRandom([])), _item("a")["image"])


def test_another_key_may_name_the_case() -> None:
    augment = PerCaseRandom([RandScaleIntensityd("image", factors=0.5, prob=1.0)], case_key="name")
    results = [augment({"name": name, "image": torch.ones(1)})["image"].item() for name in ("a", "b", "a")]
    assert results[0] == results[2] != results[1]


def test_an_item_that_does_not_name_its_case_is_refused() -> None:
    with pytest.raises(KeyError, match=r"no 'case' to seed.*it has \['image', 'name'\]"):
        _augment()({"name": "a", "image": torch.ones(1)})
