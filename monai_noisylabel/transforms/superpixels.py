"""Superpixels of images and supervoxels of volumes by SLIC."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_data_type
from skimage.color import rgb2lab
from skimage.segmentation import slic

from monai_noisylabel.transforms.label_noise import label_spacing
from monai_noisylabel.transforms.superpixel_cache import SuperpixelCache

__all__ = ["Superpixels", "Superpixelsd"]

VERSION = 1
"""Raise when the same settings come to give other superpixels: cached ones are not used then."""
CONTRAST = 100.0
"""Range of intensities, that of the lightness L of CIELAB, so that compactness means the same for all images."""
PERCENTILES = (0.5, 99.5)


class Superpixels(Transform):
    r"""Partition of an image into small homogeneous regions.

    SLIC clusters voxels by colour and place, from seeds on a regular grid: no randomness. A superpixel should lie on
    one side of every true outline, since its label is taken as a whole: check what a right label loses by it.

    - Colour images (three channels, 2D) are compared in CIELAB; values outside [0, 1] are first scaled into it.
    - In other images the range from the 0.5th to the 99.5th percentile of each channel becomes 0 to 100, the range of
      CIELAB's lightness.
    - ``features``, such as probabilities of a network trained before, are scaled alike; all together they weigh as much
      as one channel, times ``feature_weight``.

    Not for images whose structures have no contrast to their surroundings, unless features have.

    Args:
        voxels_per_superpixel: mean size, from which and the size of the image the number of superpixels follows. SLIC
            rounds the edge of its grid to whole voxels: the default, 20, is about 1000 superpixels of 4x4 for 128x128
            and 4000 for 256x256, and in 3D an edge of 3. The paper: 82 (800 per 256x256 radiograph, for lungs and
            hearts) and 164 (100 per 128x128 photograph).
        compactness: weight of place against colour; the paper: 10. Colour differences of this size, in units of a
            hundredth of the range of intensities, count as much as a distance of one superpixel. Larger: more regular
            superpixels.
        colour: compare three channels as colours; None: if the image is 2D with three channels.
        feature_weight: weight of the features against a channel of the image.
        cache_dir: folder that keeps superpixels by the content of the image and these settings; None: they are not
            kept. Workers and runs may share it.

    Shape:
        image (C, \*S) with S of 2 or 3 axes; features (F, \*S); result (1, \*S), int32, numbered from 1, so that 0 is
        free for padding. A MetaTensor with the metadata of the image if that is one.

    Raises:
        ValueError: if an argument is out of range, shapes do not fit, or the image holds NaN or infinity.

    Example:
        >>> image = torch.zeros(1, 8, 8)
        >>> image[:, :, 3:] = 1.0
        >>> ids = Superpixels(voxels_per_superpixel=16)(image)
        >>> ids.unique().tolist(), torch.equal(ids[0, 0], ids[0, 1])
        ([1, 2, 3, 4], True)
        >>> sorted(ids[..., 2].unique().tolist()), sorted(ids[..., 3].unique().tolist())  # none crosses the edge
        ([1, 3], [2, 4])

    References:
        R. Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, TPAMI 2012.
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, section 2.1.

    Deviation:
        The paper does not say how intensities are scaled; its public code takes grey values from 0 to 255 together
        with probabilities. Superpixels are smaller by default, since small structures are lost in large ones.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        voxels_per_superpixel: float = 20,
        compactness: float = 10.0,
        colour: bool | None = None,
        feature_weight: float = 1.0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value in (("voxels_per_superpixel", voxels_per_superpixel), ("compactness", compactness)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}.")
        if not 0 <= feature_weight < math.inf:
            raise ValueError(f"feature_weight must not be negative, got {feature_weight}.")
        self.settings: dict[str, Any] = {
            "voxels_per_superpixel": float(voxels_per_superpixel),
            "compactness": float(compactness),
            "colour": colour,
            "feature_weight": float(feature_weight),
        }
        versions = {"version": VERSION, "skimage": version("scikit-image")}
        self.cache = None if cache_dir is None else SuperpixelCache(cache_dir, self.settings | versions)

    def __call__(
        self,
        image: NdarrayOrTensor,
        features: NdarrayOrTensor | None = None,
        spacing: Sequence[float] | None = None,
    ) -> torch.Tensor:
        """Superpixel ids of an image.

        Args:
            image: the image.
            features: further channels to compare, or None.
            spacing: voxel size along each axis, in any unit; None: the same along all. Supervoxels are as long
                in the world along one axis as along another.
        """
        array = convert_data_type(image, np.ndarray)[0]
        extra = None if features is None else convert_data_type(features, np.ndarray)[0]
        _check(array, extra, spacing)
        size = None if spacing is None else np.asarray(spacing, float)
        if self.cache is None:
            ids = self._compute(array, extra, size)
        else:
            parts = {"image": array, "features": extra, "spacing": size}
            ids = self.cache.get(parts, lambda: self._compute(array, extra, size))
        found = torch.from_numpy(ids.astype(np.int32))[None]
        if not isinstance(image, MetaTensor):
            return found
        operations = copy.deepcopy(image.applied_operations)
        return MetaTensor(found, meta=copy.deepcopy(image.meta), applied_operations=operations)

    def _compute(self, image: np.ndarray, features: np.ndarray | None, spacing: np.ndarray | None) -> np.ndarray:
        colour = self.settings["colour"]
        if colour or (colour is None and image.ndim == 3 and len(image) == 3):
            channels = np.moveaxis(rgb2lab(_unit_range(image), channel_axis=0), 0, -1)
        else:
            channels = np.stack([_contrast(channel) for channel in image], -1)
        if features is not None and len(features):
            weight = self.settings["feature_weight"] / math.sqrt(len(features))
            extra = np.stack([_contrast(channel) * weight for channel in features], -1)
            channels = np.concatenate([channels, extra], -1)
        shape = channels.shape[:-1]
        fine = shape if spacing is None else tuple(np.round(shape * spacing / spacing.min()).astype(int))
        channels = channels[np.ix_(*(_centres(n, m) for n, m in zip(fine, shape, strict=True)))]
        ids = self._slic(channels.astype(np.float32), math.prod(shape))
        return ids[np.ix_(*(_centres(n, m) for n, m in zip(shape, fine, strict=True)))]

    def _slic(self, channels: np.ndarray, voxels: int) -> np.ndarray:
        extent = float(channels.max() - channels.min())  # scikit-image scales all channels by this to [0, 1]
        return slic(
            channels,
            n_segments=max(1, round(voxels / self.settings["voxels_per_superpixel"])),
            compactness=self.settings["compactness"] / (extent or 1.0),
            convert2lab=False,
            start_label=1,
            channel_axis=-1,
        )


class Superpixelsd(MapTransform):
    r"""Adds the superpixels of an image to a sample: :class:`Superpixels` as a dictionary transform.

    Deterministic: place it before the random transforms, so that CacheDataset and PersistentDataset keep its result,
    and move the result with the labels by the nearest neighbour. Supervoxels of a volume follow the spacing of its
    affine; the pixels of pictures and slices are taken as square.

    Args:
        keys: key of the image; exactly one.
        voxels_per_superpixel: see :class:`Superpixels`, as for the next ones.
        compactness: weight of place against colour; the paper: 10.
        colour: compare three channels as colours; None: if the image is 2D with three channels.
        feature_keys: keys of further channels to compare, such as what a network made of the image.
        feature_weight: weight of all features together.
        cache_dir: folder that keeps superpixels, or None.
        output_key: key of the superpixels.
        case_key: key of the case id, for messages.
        allow_missing_keys: leave samples without image as they are.

    Shape:
        image (C, \*S), features (F, \*S); result (1, \*S), int32.

    Raises:
        ValueError: if several keys are given; with the name of the case, where :class:`Superpixels` raises.

    Example:
        >>> sample = {"image": torch.rand(1, 12, 12), "case": "case_01"}
        >>> Superpixelsd("image", voxels_per_superpixel=36)(sample)["superpixels"].shape
        torch.Size([1, 12, 12])
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        voxels_per_superpixel: float = 20,
        compactness: float = 10.0,
        colour: bool | None = None,
        feature_keys: Sequence[str] = (),
        feature_weight: float = 1.0,
        cache_dir: str | os.PathLike[str] | None = None,
        output_key: str = "superpixels",
        case_key: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"Superpixelsd takes one image, got the keys {list(self.keys)}.")
        self.superpixels = Superpixels(voxels_per_superpixel, compactness, colour, feature_weight, cache_dir)
        self.feature_keys = (feature_keys,) if isinstance(feature_keys, str) else tuple(feature_keys)
        self.output_key = output_key
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with its superpixels."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key]
            parts = [convert_data_type(sample[name], np.ndarray)[0] for name in self.feature_keys]
            spacing = label_spacing(image) if image.ndim == 4 else None
            try:
                sample[self.output_key] = self.superpixels(image, np.concatenate(parts) if parts else None, spacing)
            except ValueError as error:
                raise ValueError(f"Case {sample.get(self.case_key)!r}: {error}") from error
        return sample


def _check(image: np.ndarray, features: np.ndarray | None, spacing: Sequence[float] | None) -> None:
    if image.ndim not in (3, 4) or not image.size:
        raise ValueError(f"Superpixels are made of an image (C, *S) with 2 or 3 axes of space, got {image.shape}.")
    if features is not None and features.shape[1:] != image.shape[1:]:
        raise ValueError(f"Image {image.shape} and features {features.shape} do not lie on the same grid.")
    if not all(np.isfinite(part).all() for part in (image, features) if part is not None):
        raise ValueError("the image or its features hold NaN or infinity; SLIC needs finite numbers.")
    if spacing is not None and (len(spacing) != image.ndim - 1 or not min(spacing) > 0):
        raise ValueError(f"spacing must give {image.ndim - 1} positive voxel sizes, got {list(spacing)}.")


def _unit_range(image: np.ndarray) -> np.ndarray:
    """A colour image with values in [0, 1]."""
    low, high = float(image.min()), float(image.max())
    return image if low >= 0 and high <= 1 else (image - low) / ((high - low) or 1.0)


def _contrast(channel: np.ndarray) -> np.ndarray:
    """A channel with its usual range scaled to 0 to CONTRAST."""
    low, high = np.percentile(channel, PERCENTILES)
    if high <= low:
        low, high = channel.min(), channel.max()
    return np.clip((channel - low) / ((high - low) or 1.0), 0, 1) * CONTRAST


def _centres(count: int, source: int) -> np.ndarray:
    """Of which of ``source`` voxels the centres of ``count`` voxels along the same axis are."""
    return ((np.arange(count) + 0.5) * source / count).astype(int)
