"""The label that training learns from now: looked up in the label store each time a sample is used."""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait

from monai_noisylabel.data.label_store import LabelStore

__all__ = ["LoadStoredLabeld"]


class LoadStoredLabeld(MapTransform, RandomizableTrait):
    r"""Adds the newest stored label of a sample, so that the next item drawn after a commit learns from it.

    Place it after the deterministic transforms and before the random ones: the trait of randomness, which is
    all it shares with them, ends the part that CacheDataset and PersistentDataset keep. Data loading workers
    see a new round at their next item, whether they persist between epochs or not.

    Not for labels that never change: reading these once, with the images, is simpler and cached.

    Args:
        keys: key of the given label; exactly one.
        store: label store, or its folder.
        output_key: key of the stored label.
        case_key: key of the case id.
        round_of: read the labels as they were after this round; None: the newest.
        default: what a sample without stored label gets: ``"zeros"``, the all-background initial pseudo-label
            of deep self-cleansing, or ``"label"``, a copy of the given label.
        allow_missing_keys: leave samples without given label as they are.

    Shape:
        label (1, \*S) for multi-class, (K, \*S) for multi-label; the result is alike, a uint8 MetaTensor with
        the metadata of the given label.

    Raises:
        ValueError: if several keys are given, ``default`` is unknown, or a stored label does not have the
            shape of the given one.
        KeyError: if a sample has no case id.
        CorruptLabelError: if the file of a stored label is damaged.

    Example:
        >>> lookup = LoadStoredLabeld("label", store="no_such_store", default="label")
        >>> lookup({"label": torch.ones(1, 2, 2), "case": "case_01"})["pseudo_label"].sum().item()
        4

    References:
        Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, 2024 (initial
        pseudo-labels).
    """

    def __init__(
        self,
        keys: KeysCollection,
        store: LabelStore | str | os.PathLike[str],
        output_key: str = "pseudo_label",
        case_key: str = "case",
        round_of: int | None = None,
        default: Literal["zeros", "label"] = "zeros",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name exactly one label, got {self.keys}; use one transform per label.")
        if default not in ("zeros", "label"):
            raise ValueError(f"default must be 'zeros' or 'label', got {default!r}.")
        self.store = store if isinstance(store, LabelStore) else LabelStore(store)
        self.output_key = output_key
        self.case_key = case_key
        self.round_of = round_of
        self.default = default

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Sample with its stored label."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            if self.case_key not in sample:
                raise KeyError(f"The sample has no case id {self.case_key!r}, by which its stored label is found.")
            sample[self.output_key] = self._lookup(sample[self.case_key], sample[key])
        return sample

    def _lookup(self, case: str, given: torch.Tensor) -> MetaTensor:
        stored = self.store.read(case, self.round_of)
        if stored is None:
            voxels = torch.zeros(given.shape, dtype=torch.uint8)
            if self.default == "label":
                voxels.copy_(torch.as_tensor(given))
        else:
            voxels = torch.from_numpy(stored)
        if voxels.shape != given.shape:
            raise ValueError(
                f"Case {case!r}: the stored label has shape {tuple(voxels.shape)}, the given one "
                f"{tuple(given.shape)}. The preprocessing is not that of the run that filled "
                f"{self.store.root}; use the same, or an empty store."
            )
        if not isinstance(given, MetaTensor):
            return MetaTensor(voxels)
        operations = copy.deepcopy(given.applied_operations)
        return MetaTensor(voxels, meta=copy.deepcopy(given.meta), applied_operations=operations)
