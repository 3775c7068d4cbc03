"""Deterministic preprocessing: from the files of a case to the tensors that training starts from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.transforms import (
    CastToTyped,
    CenterSpatialCropd,
    Compose,
    Crop,
    InvertibleTransform,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    Resize,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    SpatialPadd,
    Transform,
)

from monai_noisylabel.data.read_case import ReadCase
from monai_noisylabel.data.volume_slices import VolumeSlices

if TYPE_CHECKING:
    from monai_noisylabel.data.dataset_spec import DatasetSpec

__all__ = ["preprocessing"]

PERCENTILES = (0.5, 99.5)
Item = dict[Hashable, Any]


def preprocessing(spec: DatasetSpec, *, with_label: bool = True) -> Compose:
    r"""Transforms from file names to tensors, as the dataset's manifest describes them.

    In this order: read, turn to the orientation, resample to the spacing (image linear, label nearest), clip
    to the window, normalise, crop, bring to the final size. Pictures are neither turned nor resampled to a
    spacing. In a 2D training on volumes the slices stay where they are, and an item with ``"slice"`` gets
    that slice of its preprocessed volume, which is kept for the next slice (see :class:`VolumeSlices`); an
    item without ``"slice"`` gets the whole volume, for a slice-wise inferer.

    Image and label are MetaTensors whose affine is that of the training grid; ``meta`` names the file
    (``"filename_or_obj"``) and its own affine and shape (``"original_affine"``, ``"spatial_shape"``). All
    steps are invertible: MONAI's ``Invertd`` puts a prediction for a picture or a whole volume back on the
    grid of its file. A crop around the label is made around the middle of the image if there is no label.

    Args:
        spec: the dataset.
        with_label: whether items have a ``"label"`` to be read.

    Shape:
        ``data["image"]`` (C, \*S) float32; ``data["label"]`` (1, \*S), or (K, \*S) for multi-label, uint8;
        ``data["case"]`` the case id.

    Raises:
        RuntimeError: when applied, by MONAI's ``Compose``; its cause is the ValueError of :class:`ReadCase`
            or :class:`VolumeSlices`, which names the file.
    """
    keys = ("image", "label") if with_label else ("image",)
    steps = _ByDimensions(keys, {dims: Compose(_steps(spec, keys, dims)) for dims in (2, 3)})
    whole: list[Transform] = [ReadCase(spec, with_label), steps]
    if spec.spatial_dims == 2:
        whole = [VolumeSlices(Compose(whole), keys)]
    return Compose([_NameCase(spec), *whole])


def _steps(spec: DatasetSpec, keys: Sequence[str], dims: int) -> list[Transform]:
    """Steps after reading, for images or volumes; keys may be missing, as when one of them is inverted."""
    recipe = spec.manifest.preprocessing
    steps: list[Transform] = []
    if dims == 3 and recipe.orientation is not None:
        steps.append(Orientationd(keys, axcodes=recipe.orientation, labels=None, allow_missing_keys=True))
    if dims == 3 and recipe.spacing is not None:
        spacing = _per_axis(recipe.spacing, spec.spatial_dims, dims)
        mode = ("bilinear", "nearest")[: len(keys)]
        steps.append(Spacingd(keys, spacing, mode=mode, dtype=np.float32, allow_missing_keys=True))
    steps += _intensity(spec)
    if recipe.crop is not None:
        size = [int(n) for n in _per_axis(recipe.crop.size, spec.spatial_dims, dims)]
        if recipe.crop.centre == "label" and "label" in keys:
            steps.append(_CropAroundLabel(keys, size))
        else:
            steps.append(CenterSpatialCropd(keys, size, allow_missing_keys=True))
        steps.append(SpatialPadd(keys, size, allow_missing_keys=True))
    if recipe.size is not None:
        size = [int(n) for n in _per_axis(recipe.size, spec.spatial_dims, dims)]
        if recipe.fit == "resize":
            steps.append(_Resize(keys, size))
        else:
            steps.append(ResizeWithPadOrCropd(keys, size, allow_missing_keys=True))
    return [*steps, CastToTyped(keys, dtype=(torch.float32, torch.uint8)[: len(keys)])]


def _intensity(spec: DatasetSpec) -> list[Transform]:
    recipe = spec.manifest.preprocessing
    steps: list[Transform] = []
    if recipe.window is not None:
        low, high = recipe.window
        unit = recipe.normalise == "window"
        target = (0.0, 1.0) if unit else (low, high)
        steps.append(ScaleIntensityRanged("image", low, high, *target, clip=True))
    if recipe.normalise == "zscore":
        steps.append(NormalizeIntensityd("image", nonzero=True, channel_wise=True))
    elif recipe.normalise == "percentile":
        steps.append(ScaleIntensityRangePercentilesd("image", *PERCENTILES, 0.0, 1.0, clip=True, channel_wise=True))
    return steps


def _per_axis(numbers: Sequence[float], spatial_dims: int, dims: int) -> list[float]:
    """Numbers for each axis of the data, -1 (keeps an axis) where none is given and across slices of 2D."""
    kept = list(numbers[:spatial_dims])
    return (kept + [-1] * dims)[:dims]


class _NameCase(Transform):
    """Adds the case id that follows from the image path to items that have none."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        item = dict(data)
        if item.get("case") is None:
            image = item["image"]
            case = self.spec.case_of(image if isinstance(image, str) or not isinstance(image, Sequence) else image[0])
            item["case"] = case if item.get("slice") is None else f"{case}/{item['slice']:03d}"
        return item


class _ByDimensions(MapTransform, InvertibleTransform):
    """The steps for images or those for volumes, whichever the item's image is."""

    def __init__(self, keys: Sequence[str], steps: Mapping[int, Compose]) -> None:
        super().__init__(keys)
        self.steps = steps

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        return dict(self._steps_of(data)(data))

    def inverse(self, data: Mapping[Hashable, Any]) -> Item:
        return dict(self._steps_of(data).inverse(data))

    def _steps_of(self, data: Mapping[Hashable, Any]) -> Compose:
        first = next(data[key] for key in self.keys if key in data)
        return self.steps[first.ndim - 1]


class _CropAroundLabel(MapTransform, InvertibleTransform):
    """Cuts a box around the centre of mass of all structures, shifted to lie in the image as far as it fits.

    An empty label, and an axis whose size is -1, leave the middle of the image.
    """

    def __init__(self, keys: Sequence[str], size: Sequence[int]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size = size
        self.crop = Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        item = dict(data)
        shape = item["label"].shape[1:]
        labelled = torch.nonzero(item["label"].as_tensor().amax(0)).double()
        centre = labelled.mean(0).tolist() if len(labelled) else [(n - 1) / 2 for n in shape]
        box = []
        for middle, size, n in zip(centre, self.size, shape, strict=True):
            start = min(max(round(middle - (size - 1) / 2), 0), n - size)
            box.append(slice(start, start + size) if 0 < size < n else slice(0, n))
        for key in self.key_iterator(item):
            item[key] = self.crop(item[key], slices=tuple(box))
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> Item:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.crop.inverse(item[key])
        return item


class _Resize(MapTransform, InvertibleTransform):
    """Interpolates to a size: images by area if no axis grows, else linearly; labels by the nearest voxel."""

    def __init__(self, keys: Sequence[str], size: Sequence[int]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size = tuple(size)
        self.resize = Resize(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        item = dict(data)
        for key in self.key_iterator(item):
            shape = item[key].shape[1:]
            grows = any(n > old for n, old in zip(self.size, shape, strict=True))
            linear = "bilinear" if len(shape) == 2 else "trilinear"
            mode = "nearest-exact" if key == "label" else linear if grows else "area"
            item[key] = self.resize(item[key], mode=mode)
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> Item:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.resize.inverse(item[key])
        return item
