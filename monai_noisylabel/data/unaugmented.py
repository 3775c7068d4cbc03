"""A training set read as it is before augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable

from monai.data import Dataset
from monai.transforms import Compose, Randomizable

__all__ = ["unaugmented"]


def unaugmented(dataset: Dataset) -> Dataset:
    """The same items, in the same order and from the same cache, without augmentation.

    A sweep over the training set must see it as it is. This view runs every transform before the first one that
    draws random numbers (:class:`monai.transforms.Randomizable`). A lookup that is merely fresh at each read and
    carries ``RandomizableTrait``, such as a stored label, is kept. The cache of a CacheDataset or PersistentDataset
    is shared, so the data are held once.

    Args:
        dataset: a MONAI dataset whose transform is a Compose.

    Raises:
        TypeError: if the dataset's transform is not a Compose.

    Example:
        >>> from monai.transforms import Lambdad, RandLambdad
        >>> steps = Compose([Lambdad("x", lambda x: x + 1), RandLambdad("x", lambda x: -x)])
        >>> dataset = Dataset([{"x": 1}], steps)
        >>> int(dataset[0]["x"]), unaugmented(dataset)[0]["x"]
        (-2, 2)
    """
    transform = getattr(dataset, "transform", None)
    if not isinstance(transform, Compose):
        raise TypeError(
            f"A dataset can be read without its augmentation only if its transform is a monai Compose, got "
            f"{type(transform).__name__}: wrap the transforms in Compose."
        )
    view = copy.copy(dataset)
    view.transform, _ = _before_augmentation(transform)
    return view


def _before_augmentation(steps: Compose) -> tuple[Compose, bool]:
    """The steps before the first random one, and whether there is one.

    A nested Compose stays nested: caches end at the first one, and what they hold must go on from there.
    """
    kept: list[Callable] = []
    ended = False
    for step in steps.transforms:
        if type(step) is Compose:
            step, ended = _before_augmentation(step)
        elif isinstance(step, Randomizable):
            ended = True
            break
        kept.append(step)
        if ended:
            break
    before = copy.copy(steps)
    before.transforms = tuple(kept)
    return before, ended
