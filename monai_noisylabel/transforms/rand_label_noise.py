"""Label noise as a random transform, drawn anew each time a sample is used."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_data_type, convert_to_dst_type

from monai_noisylabel.corruption import NoiseModel, PredictedNoise, case_generator, parse_model
from monai_noisylabel.corruption.corrupt import label_masks
from monai_noisylabel.corruption.recipe import model_name
from monai_noisylabel.masks import from_masks
from monai_noisylabel.transforms.label_noise import label_spacing

__all__ = ["RandLabelNoise", "RandLabelNoised"]


class RandLabelNoise(RandomizableTransform):
    r"""Give a label other noise every time it is used.

    For studies of online corruption: a network then sees every label right on average, or as the noise model is
    biased. Real label noise is not like that: a wrong label stays wrong in every epoch and can be memorised. To
    simulate it, use :class:`~monai_noisylabel.transforms.SimulateLabelNoised`.

    Args:
        model: noise model, its name, or a mapping of its name and settings; see
            :func:`monai_noisylabel.corruption.parse_model`. Not ``predicted``, which draws nothing.
        prob: probability of noise each time, 0 to 1 (MONAI clips what lies outside).
        num_classes: classes including background for a multi-class label, channels for a multi-label one.
        multi_label: how the label is written.

    Attributes:
        drawn: what the last call drew: ``{"model": name, "parameters": per structure}``, the model being
            ``"none"`` where there was no noise.

    Shape:
        label (1, \*S) multi-class or (K, \*S) multi-label, tensor or array, S of 2 or 3 axes; result the same
        kind, with the same dtype, device and metadata. Models that need a spacing take it from a MetaTensor.

    Raises:
        ValueError: for unknown models or settings, or a label that does not fit ``num_classes`` and
            ``multi_label``.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 32, 32, dtype=torch.uint8)
        >>> label[0, 8:24, 8:24] = 1
        >>> noise = RandLabelNoise("boundary", prob=1.0, num_classes=2).set_random_state(seed=0)
        >>> [int(noise(label).sum()) for _ in range(4)]
        [100, 16, 464, 144]
        >>> noise.drawn
        {'model': 'boundary', 'parameters': {'1': {'shift': -2, 'unit': 'voxel'}}}
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        model: NoiseModel | str | Mapping[str, Any],
        prob: float = 0.1,
        *,
        num_classes: int,
        multi_label: bool = False,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        chosen = parse_model(model)
        if isinstance(chosen, PredictedNoise):
            raise ValueError("Predicted labels are the same each time they are read; use SimulateLabelNoised.")
        self.model = chosen
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.drawn: dict[str, Any] = {"model": "none", "parameters": {}}
        self._seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw whether there is noise, and the seed of the model's own draws."""
        super().randomize(data)
        self._seed = int(self.R.randint(2**31))

    def __call__(self, label: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """The label, noisy or as it is.

        Args:
            label: clean label.
            randomize: draw anew; False repeats the last draw.
        """
        if randomize:
            self.randomize()
        self.drawn = {"model": "none", "parameters": {}}
        if not self._do_transform:
            return label
        array = convert_data_type(label, np.ndarray)[0]
        clean = label_masks(array, "label", self.num_classes, self.multi_label)
        draw = partial(case_generator, self._seed, "")
        noisy, parameters = self.model.apply(clean, draw, spacing=label_spacing(label), overlap=self.multi_label)
        self.drawn = {"model": model_name(self.model), "parameters": {n: dict(p) for n, p in parameters.items()}}
        result: NdarrayOrTensor = convert_to_dst_type(from_masks(noisy, self.multi_label), label)[0]
        return result


class RandLabelNoised(RandomizableTransform, MapTransform):
    r"""Dictionary version of :class:`RandLabelNoise`; the draw can be kept beside the label.

    Args:
        keys: key of the label; exactly one.
        model: as :class:`RandLabelNoise`.
        prob: as :class:`RandLabelNoise`.
        num_classes: as :class:`RandLabelNoise`.
        multi_label: as :class:`RandLabelNoise`.
        record_key: key for what was drawn, ``RandLabelNoise.drawn`` as JSON text (which batches of any structures
            can be made of); None to drop it.
        allow_missing_keys: pass on data without a label unchanged.

    Raises:
        ValueError: if ``keys`` is not one key, and as :class:`RandLabelNoise`.
        KeyError: if the label is absent.

    Example:
        >>> import torch
        >>> item = {"image": torch.rand(1, 8, 8), "label": torch.ones(1, 8, 8)}
        >>> noise = RandLabelNoised("label", "missing", prob=0.6, num_classes=2, record_key="drawn")
        >>> noise = noise.set_random_state(seed=0)
        >>> [(int(noisy["label"].sum()), noisy["drawn"][:18]) for noisy in map(noise, [item] * 2)]
        [(0, '{"model": "missing'), (64, '{"model": "none", ')]
    """

    backend = RandLabelNoise.backend

    def __init__(
        self,
        keys: KeysCollection,
        model: NoiseModel | str | Mapping[str, Any],
        prob: float = 0.1,
        *,
        num_classes: int,
        multi_label: bool = False,
        record_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 1:
            raise ValueError(f"RandLabelNoised corrupts one label, got the keys {list(self.keys)}.")
        self.noise = RandLabelNoise(model, prob=1.0, num_classes=num_classes, multi_label=multi_label)
        self.record_key = record_key

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandLabelNoised:
        """Set the random state of this transform and of the array transform in it."""
        super().set_random_state(seed, state)
        self.noise.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Data with the label noisy or as it is, and the record where asked for."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.randomize(None)
            drawn: Mapping[str, Any] = {"model": "none", "parameters": {}}
            if self._do_transform:
                d[key] = self.noise(d[key])
                drawn = self.noise.drawn
            if self.record_key is not None:
                d[self.record_key] = json.dumps(drawn)
        return d
