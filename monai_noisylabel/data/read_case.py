"""Reading of one case: its image, and its label in the class values of a training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, Transform
from nibabel.orientations import aff2axcodes

from monai_noisylabel.data.label_geometry import way_beside
from monai_noisylabel.data.read_image import read_image
from monai_noisylabel.data.seg_label import dicom_rules, read_case_labels
from monai_noisylabel.masks import from_masks

if TYPE_CHECKING:
    from monai_noisylabel.data.dataset_spec import DatasetSpec

__all__ = ["ReadCase"]


class ReadCase(Transform):
    r"""Reads ``data["image"]`` and, if wanted, ``data["label"]`` from files.

    Label values of the manifest's classes become 1..K in the order of the specification's classes, everything
    else 0; a multi-label case gets one binary channel per class. A label in another orientation than its
    image is turned to it, and takes over the image's affine.

    Args:
        spec: the dataset.
        with_label: whether the label is read; otherwise an item needs no label, and one that it has is left
            alone.

    Shape:
        image (C, \*S) float32; label (1, \*S), or (K, \*S) for multi-label, uint8.

    Raises:
        ValueError: if a file cannot be read, or image and label do not lie on the same grid.
    """

    def __init__(self, spec: DatasetSpec, with_label: bool = True) -> None:
        self.spec = spec
        self.with_label = with_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Item with MetaTensors in place of file names."""
        item = dict(data)
        files = _paths(item["image"])
        image = read_image(files, self.spec.in_channels, self.spec.manifest.dicom.series)
        if image.ndim - 1 < self.spec.spatial_dims:
            raise ValueError(f"{files}: is two-dimensional; a 3D training needs volumes.")
        item["image"] = image
        if self.with_label:
            if item.get("label") is None:
                raise ValueError(f"{files}: the case has no label, which training needs.")
            image_file = files if isinstance(files, str) else files[0]
            item["label"] = self._label(_paths(item["label"]), image_file, image)
        return item

    def _label(self, files: str | list[str], image_file: str, image: MetaTensor) -> MetaTensor:
        manifest = self.spec.manifest
        values = [manifest.values(name) for name in self.spec.classes]
        label = read_case_labels(files, image_file, values, dicom_rules(manifest), manifest.coloured)
        label = _on_grid_of(label, image)
        masks = _masks(label.as_tensor(), values)
        meta = {**label.meta, "affine": image.affine.clone()}
        return MetaTensor(from_masks(masks, self.spec.multi_label), meta=meta)


def _paths(value: object) -> str | list[str]:
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, Sequence) and all(isinstance(path, (str, Path)) for path in value):
        return [str(path) for path in value]
    raise ValueError(f"A file name or a list of them is needed, got {type(value).__name__}.")


def _on_grid_of(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """Label turned to the axes of the image; an error if it lies elsewhere."""
    files = f"{label.meta['filename_or_obj']} and {image.meta['filename_or_obj']}"
    volume = image.ndim == 4
    if volume and label.ndim == 4:
        axes = aff2axcodes(image.affine.numpy())
        if aff2axcodes(label.affine.numpy()) != axes:
            turned = Orientation("".join(axes), labels=None)(label)
            assert isinstance(turned, MetaTensor)
            label = MetaTensor(turned.as_tensor(), meta={**label.meta, "affine": turned.affine})
    if label.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"{files}: label and image have the shapes {tuple(label.shape[1:])}, {tuple(image.shape[1:])}; "
            "resample the label to the grid of the image."
        )
    if volume:
        shift = way_beside(label.affine.numpy(), image.affine.numpy(), image.shape[1:])
        if shift:
            raise ValueError(f"{files}: label and image lie up to {shift:.3g} mm apart; correct the header of one.")
    return label


def _masks(label: torch.Tensor, values: Sequence[Sequence[int] | None]) -> torch.Tensor:
    """Binary masks (K, *S) of the classes, from one channel of values or one channel per class."""
    channels = label.expand(len(values), *label.shape[1:])
    return torch.stack(
        [
            channel != 0 if wanted is None else torch.isin(channel, torch.tensor(wanted, dtype=channel.dtype))
            for channel, wanted in zip(channels, values, strict=True)
        ]
    )
