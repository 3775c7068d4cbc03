"""Label correction by prototypes as a post-processing transform of a sweep."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_noisylabel.correction import clean_up_label, relabel
from monai_noisylabel.correction.relabel import Variant
from monai_noisylabel.masks import from_masks

__all__ = ["PrototypeRelabeld"]


class PrototypeRelabeld(MapTransform):
    """Turns logits and features of one sample into its predicted label and a corrected one.

    Takes what :class:`~monai_noisylabel.networks.FeatureTap` returns for one sample, replaces it by the predicted
    label, and puts the label that :func:`~monai_noisylabel.correction.relabel` proposes under ``output_key``. A
    structure that the network does not predict at all cannot be proposed: it keeps its voxels of the current label, and
    so do the structures in the attribute ``kept`` (numbers from 1), which
    :class:`~monai_noisylabel.handlers.KeepUnlearned` sets.

    Args:
        keys: key of logits and features, stacked along the channels.
        num_outputs: C, number of logit channels; what follows are features.
        multi_label: logits of structures that may overlap (sigmoid) instead of exclusive classes (softmax).
        output_key: key of the corrected label.
        current_key: key of the label in use so far.
        variant: ``prototype`` (the paper's), ``average`` (one mean prototype) or ``prediction`` (the predicted label).
        cells: grid cells along the longer axis of the map; the paper: 64.
        sigma: threshold on the representation degree in [0, 1]; the paper: 0.7.
        mu: threshold on the similarity to the prototypes in [-1, 1]; the paper: 0.7.
        min_component: connected components below this fraction of the foreground are dropped; the paper: 0.1.
        max_hole: holes below this fraction of the foreground are filled; the paper: 0.1.

    Shape:
        data[key] (C + d, \\*S); afterwards data[key] and data[output_key] are labels: (1, \\*S) or (C, \\*S), uint8.

    References:
        Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, 2024, section 2.3.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_outputs: int,
        multi_label: bool = False,
        output_key: str = "candidate",
        current_key: str = "pseudo_label",
        variant: Variant = "prototype",
        cells: int = 64,
        sigma: float = 0.7,
        mu: float = 0.7,
        min_component: float = 0.1,
        max_hole: float = 0.1,
    ) -> None:
        super().__init__(keys)
        self.num_outputs = num_outputs
        self.kept: frozenset[int] = frozenset()
        self.multi_label = multi_label
        self.output_key = output_key
        self.current_key = current_key
        self.correction: dict[str, Any] = {"variant": variant, "cells": cells, "sigma": sigma, "mu": mu}
        self.clean_up: dict[str, Any] = {"min_component": min_component, "max_hole": max_hole}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its predicted and its corrected label."""
        item = dict(data)
        form: dict[str, Any] = {"num_classes": self.num_outputs, "multi_label": self.multi_label}
        for key in self.key_iterator(item):
            stacked = item[key].as_subclass(Tensor)
            logits, features = stacked[: self.num_outputs], stacked[self.num_outputs :]
            item[key] = predicted_label(logits, self.multi_label)
            corrected = relabel(features, item[key], **form, **self.correction)
            proposal = clean_up_label(corrected, **form, **self.clean_up)
            current = item[self.current_key].as_subclass(Tensor).to(proposal.device)
            item[self.output_key] = self._keep_unpredicted(proposal, item[key], current)
        return item

    def _keep_unpredicted(self, proposal: Tensor, prediction: Tensor, current: Tensor) -> Tensor:
        if self.multi_label:
            predicted = prediction.bool().flatten(1).any(1)
            for number in self.kept:
                predicted[number - 1] = False
            return torch.where(predicted.view(-1, *[1] * (proposal.ndim - 1)), proposal, current)
        unpredicted = [value for value in range(1, self.num_outputs) if not bool((prediction == value).any())]
        fixed = current.new_tensor([*self.kept, *unpredicted])
        return torch.where(torch.isin(current, fixed) | torch.isin(proposal, fixed), current, proposal)


def predicted_label(logits: Tensor, multi_label: bool) -> Tensor:
    """The label of largest logit, or the structures of positive logit; (C, \\*S) to a uint8 label."""
    if multi_label:
        return from_masks(logits > 0, multi_label=True)
    return logits.argmax(0, keepdim=True).to(torch.uint8)
