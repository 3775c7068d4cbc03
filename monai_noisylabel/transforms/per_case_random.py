"""Augmentation whose draws depend on the case and the epoch alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose, Randomizable, Transform

__all__ = ["PerCaseRandom"]


class PerCaseRandom(Randomizable, Transform):
    """Runs random transforms with a seed made of (seed, epoch, case).

    MONAI seeds random transforms once per worker, so what a case gets depends on how many workers there are, in which
    order cases come, and how often a run was interrupted. Here it depends on none of these: a resumed training sees
    what the uninterrupted one would have seen.

    Args:
        transforms: the random transforms, in order.
        seed: seed of the run.
        case_key: key of the item that holds the case's name.

    Attributes:
        epoch: the training epoch; :class:`~monai_noisylabel.handlers.EpochStart` sets it.

    Raises:
        KeyError: at call, if the item does not name its case.

    Example:
        >>> from monai.transforms import RandScaleIntensityd
        >>> import torch
        >>> augment = PerCaseRandom([RandScaleIntensityd("image", factors=0.5, prob=1.0)], seed=0)
        >>> first = augment({"case": "a", "image": torch.ones(1)})["image"].item()
        >>> other = augment({"case": "b", "image": torch.ones(1)})["image"].item()
        >>> again = augment({"case": "a", "image": torch.ones(1)})["image"].item()
        >>> first == again, first == other
        (True, False)
    """

    def __init__(self, transforms: Sequence[Callable], seed: int = 0, case_key: str = "case") -> None:
        self.compose = Compose(transforms)
        self.seed = seed
        self.case_key = case_key
        self.epoch = 0

    def __call__(self, data: Mapping[Hashable, Any]) -> Any:
        """The item after the random transforms."""
        if self.case_key not in data:
            raise KeyError(
                f"The item has no '{self.case_key}' to seed its augmentation with; it has {sorted(map(str, data))}. "
                "Put the case's name there in the preprocessing."
            )
        text = f"{self.seed}/{self.epoch}/{data[self.case_key]}"
        digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
        self.compose.set_random_state(seed=int.from_bytes(digest, "little"))
        return self.compose(data)
