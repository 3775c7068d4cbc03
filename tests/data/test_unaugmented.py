"""The training set as a sweep sees it: same items, same cache, no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import Compose, Lambdad, MapTransform, OneOf, RandLambdad, RandomizableTrait
from torch.utils.data import TensorDataset

from monai_noisylabel.data.unaugmented import unaugmented
from monai_noisylabel.transforms.per_case_random import PerCaseRandom

ITEMS = [{"case": name, "x": value} for name, value in (("a", 1), ("b", 2), ("c", 3))]


class Count(MapTransform):
    """Adds ten and counts how often it ran."""

    runs = 0

    def __call__(self, data: Any) -> Any:
        Count.runs += 1
        return {**data, "x": data["x"] + 10}


class Lookup(MapTransform, RandomizableTrait):
    """A value that may be another one at each read, as a stored label is."""

    value = 0

    def __call__(self, data: Any) -> Any:
        return {**data, "stored": Lookup.value}


def _negate(x: int) -> int:
    return -x


def _values(dataset: Dataset) -> list[int]:
    return [int(dataset[index]["x"]) for index in range(len(dataset))]


def _dataset(kind: str, steps: Sequence[Callable], folder: Path) -> Dataset:
    transform = Compose(steps)
    if kind == "cache":
        return CacheDataset(ITEMS, transform, progress=False)
    if kind == "persistent":
        return PersistentDataset(ITEMS, transform, cache_dir=folder)
    return Dataset(ITEMS, transform)


KINDS = pytest.mark.parametrize("kind", ["plain", "cache", "persistent"])


@KINDS
def test_everything_from_the_first_random_transform_on_is_left_out(kind: str, tmp_path: Path) -> None:
    # x + 10; then at random (here always) negated, and 100 added, which is deterministic but works on
    # augmented data
    steps = [Count("x"), RandLambdad("x", _negate), Lambdad("x", lambda x: x + 100)]
    dataset = _dataset(kind, steps, tmp_path)
    assert _values(dataset) == [89, 88, 87]
    assert _values(unaugmented(dataset)) == [11, 12, 13]
    assert _values(dataset) == [89, 88, 87], "the training set itself must not change"


@KINDS
@pytest.mark.parametrize("last", [RandLambdad("x", _negate), OneOf([Lambdad("x", _negate)]), PerCaseRandom([])])
def test_whatever_draws_random_numbers_ends_the_view(kind: str, last: Callable, tmp_path: Path) -> None:
    view = unaugmented(_dataset(kind, [Count("x"), last], tmp_path))
    assert _values(view) == [11, 12, 13]
    assert len(view.transform.transforms) == 1


@KINDS
def test_without_augmentation_the_view_is_the_whole(kind: str, tmp_path: Path) -> None:
    assert _values(unaugmented(_dataset(kind, [Count("x"), Lambdad("x", _negate)], tmp_path))) == [
        -11,
        -12,
        -13,
    ]


@pytest.mark.parametrize("kind", ["cache", "persistent"])
def test_the_cache_is_shared(kind: str, tmp_path: Path) -> None:
    Count.runs = 0
    dataset = _dataset(kind, [Count("x"), RandLambdad("x", _negate)], tmp_path)
    _values(dataset)
    assert Count.runs == 3
    _values(unaugmented(dataset))
    assert Count.runs == 3, "the view must not compute again what the training set has cached"


@KINDS
def test_a_lookup_stays_and_is_fresh_at_each_read(kind: str, tmp_path: Path) -> None:
    view = unaugmented(_dataset(kind, [Count("x"), Lookup("x"), RandLambdad("x", _negate)], tmp_path))
    for Lookup.value in (1, 2):
        assert view[0]["stored"] == Lookup.value
        assert view[0]["x"] == 11


@KINDS
@pytest.mark.parametrize(
    ("nested", "expected"),
    [
        # the cache ends before the nested Compose, so the view must run all of it: 10 (x + 10)
        (lambda: [Compose([Lambdad("x", lambda x: 10 * x)]), RandLambdad("x", _negate)], [110, 120, 130]),
        # and no more of it than its deterministic part
        (lambda: [Compose([Lambdad("x", lambda x: 10 * x), RandLambdad("x", _negate)])], [110, 120, 130]),
        (lambda: [Compose([RandLambdad("x", _negate)]), Lambdad("x", _negate)], [11, 12, 13]),
        (lambda: [Compose([Compose([RandLambdad("x", _negate)]), Lambdad("x", _negate)])], [11, 12, 13]),
    ],
)
def test_nested_transforms(
    kind: str, nested: Callable[[], list[Callable]], expected: list[int], tmp_path: Path
) -> None:
    assert _values(unaugmented(_dataset(kind, [Count("x"), *nested()], tmp_path))) == expected


def test_a_single_transform_is_a_compose_of_one() -> None:
    assert _values(unaugmented(Dataset(ITEMS, RandLambdad("x", _negate)))) == [1, 2, 3]


def test_a_dataset_that_transforms_in_another_way_is_refused() -> None:
    dataset = Dataset(ITEMS)
    dataset.transform = Count("x")
    with pytest.raises(TypeError, match=r"monai Compose, got Count: wrap"):
        unaugmented(dataset)
    with pytest.raises(TypeError, match=r"monai Compose, got NoneType: wrap"):
        unaugmented(TensorDataset(torch.zeros(3)))
