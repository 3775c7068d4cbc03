"""The label of a case on its own grid in the axes of training, and its way back into files like the original ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.dicom_series import read_series
from monai_noisylabel.data.original_label import ClassValues, OriginalLabel, held_by, merged_values
from monai_noisylabel.data.read_image import NIFTI, read_image
from monai_noisylabel.data.seg_label import dicom_rules, read_originals
from monai_noisylabel.masks import from_masks

__all__ = [
    "CaseLabel",
    "combined_values",
    "paths_of",
    "read_case_image",
    "read_case_label",
    "turned",
    "turned_affine",
]


@dataclass(frozen=True)
class CaseLabel:
    """Label files of a case, or of a volume whose slices are cases.

    Masks have the axes that training turns volumes to: noise that is drawn on them is the noise that training draws,
    and the slices of a two-dimensional training lie along their last axis.

    Args:
        sources: the files; of a DICOM SEG with overlapping structures, one for each of them.
        structures: for each file, the indices of the structures in it.
        values: for each structure, its values in its file.
        overlap: whether structures may overlap.
        axes: axis codes of the masks; None for two-dimensional labels, which are never turned.
        affine: voxel index along these axes to world, 4x4, of the image.
    """

    sources: tuple[OriginalLabel, ...]
    structures: tuple[tuple[int, ...], ...]
    values: tuple[ClassValues, ...]
    overlap: bool
    axes: str | None
    affine: np.ndarray

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along the axes of the masks; ones for pictures, which have none."""
        edges = torch.linalg.vector_norm(torch.as_tensor(self.affine).double()[:-1, :-1], dim=0)
        return tuple(edges[: self.masks.ndim - 1].tolist())

    def placed(self, masks: np.ndarray) -> MetaTensor:
        """Masks (K, *S) in the axes of :attr:`masks`, with their place in the world."""
        return MetaTensor(torch.from_numpy(masks), affine=torch.as_tensor(self.affine))

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks (K, *S) of the structures."""
        return self.masks_in([source.values for source in self.sources])

    def masks_in(self, contents: Sequence[np.ndarray]) -> np.ndarray:
        """Masks (K, *S) of files with these values in place of their own."""
        found: dict[int, np.ndarray] = {}
        for source, structures, values in zip(self.sources, self.structures, contents, strict=True):
            oriented = turned(values, source.affine, self.axes)
            found |= {index: held_by(oriented, self.values[index]) for index in structures}
        return np.stack([found[index] for index in range(len(self.values))])

    def in_file_axes(self, array: np.ndarray) -> np.ndarray:
        """An array (*S) in the axes of the masks, turned back to those of the first file."""
        return _turned_back(array[None], self.sources[0].affine, self.axes)[0]

    def contents_with(self, masks: np.ndarray) -> list[np.ndarray]:
        """Values of each file, on its own grid, after its structures have become these masks."""
        contents = []
        for source, structures in zip(self.sources, self.structures, strict=True):
            back = _turned_back(masks[list(structures)], source.affine, self.axes)
            values = [self.values[index] for index in structures]
            if self.overlap and len(structures) > 1:
                contents.append(combined_values(source.values, back, values))
            else:
                label = from_masks(back, multi_label=False)[0].astype(np.int16)
                contents.append(merged_values(source.values, label, values, source.mark))
        return contents


def read_case_label(item: Mapping[str, Any], spec: DatasetSpec) -> CaseLabel:
    """Read the label files of an item of a dataset.

    Args:
        item: item of the specification; of a slice, its whole volume is read.
        spec: the dataset.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file holds no label, or several files lie on different grids.
    """
    files, image_file = paths_of(item["label"]), paths_of(item["image"])[0]
    rules = dicom_rules(spec.manifest)
    found = read_originals(files, image_file, spec.label_values, rules, spec.manifest.coloured)
    sources, structures = zip(*found, strict=True)
    image = _image_affine(image_file, rules.series)
    axes = None
    if sources[0].values.ndim == 3:
        axes = spec.manifest.preprocessing.orientation or "".join(aff2axcodes(image))
    shapes = {turned(source.values, source.affine, axes).shape for source in sources}
    if len(shapes) > 1:
        raise ValueError(f"The label files {', '.join(dict.fromkeys(files))} have different shapes {sorted(shapes)}.")
    values = tuple(spec.label_values[name] for name in spec.classes)
    affine = turned_affine(image, axes, shapes.pop())
    return CaseLabel(sources, structures, values, spec.multi_label, axes, affine)


def read_case_image(item: Mapping[str, Any], label: CaseLabel, spec: DatasetSpec) -> np.ndarray:
    r"""Read the image of an item in the axes of its label.

    Args:
        item: item of the specification; of a slice, its whole volume is read.
        label: from :func:`read_case_label`.
        spec: the dataset.

    Shape:
        Result (C, \*S), float32.

    Raises:
        ValueError: if a file cannot be read.
    """
    files = paths_of(item["image"])
    image = read_image(files if len(files) > 1 else files[0], spec.in_channels, spec.manifest.dicom.series)
    array = image.as_tensor().numpy()
    return np.stack([turned(channel, image.affine.numpy(), label.axes) for channel in array])


def combined_values(given: np.ndarray, masks: np.ndarray, values: Sequence[ClassValues]) -> np.ndarray:
    r"""Values of one file that holds several structures which may overlap, after they have become these masks.

    A value of such a file stands for one combination of structures, such as 255 for optic cup and disc. A voxel
    whose combination is not changed keeps its value. Where no value stands for the new combination, the one that
    differs least from it is written, of equally near ones that with most structures: a cup that has grown beyond
    its disc takes the disc along.

    Args:
        given: values in the file.
        masks: masks of the structures.
        values: for each structure, its values in the file.

    Shape:
        given (\*S), masks (K, \*S); result (\*S).

    Raises:
        ValueError: if a structure has no values of its own, being all that is not 0.

    Example:
        >>> given = np.array([0, 128, 255, 255, 128, 0])
        >>> disc, cup = np.array([[0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]], bool)
        >>> combined_values(given, np.stack([disc, cup]), [(128, 255), (255,)]).tolist()
        [0, 128, 128, 255, 255, 0]
    """
    numbers = [() if entry is None else tuple(np.ravel(entry).tolist()) for entry in values]
    if () in numbers:
        raise ValueError("several structures of one label file need values of their own; give them in the manifest.")
    known = list(dict.fromkeys([0, *(number for entry in numbers for number in entry)]))
    held = np.array([[number in entry for entry in numbers] for number in known])
    written = given.copy()
    current = np.stack([held_by(given, entry) for entry in values])
    changed = (current != masks).any(0)
    wanted, which = np.unique(masks[:, changed], axis=1, return_inverse=True)
    distance = (held[:, :, None] != wanted[None]).sum(1) - held.sum(1)[:, None] / (1 + len(values))
    written[changed] = np.array(known)[distance.argmin(0)][which.reshape(-1)]
    return written


def paths_of(entry: object) -> list[str]:
    """Paths under a key of an item: one, or one per channel or class."""
    return [str(path) for path in entry] if isinstance(entry, list | tuple) else [str(entry)]


def turned(array: np.ndarray, affine: np.ndarray, axes: str | None) -> np.ndarray:
    r"""An array of the grid of a file in other axes.

    Args:
        array: voxels in the order of the file; axes after the third stay as they are.
        affine: voxel index to world of the file, 4x4.
        axes: axis codes such as ``"RAS"``; None leaves the array as it is.

    Shape:
        array (\*S).

    Example:
        >>> turned(np.arange(3).reshape(3, 1, 1), np.diag([-1, 1, 1, 1]), "RAS").ravel().tolist()
        [2, 1, 0]
    """
    return array if axes is None else apply_orientation(array, _turn(affine, axes))


def _turned_back(masks: np.ndarray, affine: np.ndarray, axes: str | None) -> np.ndarray:
    if axes is None:
        return masks
    back = ornt_transform(axcodes2ornt(axes), io_orientation(affine))
    return np.stack([apply_orientation(mask, back) for mask in masks])


def _turn(affine: np.ndarray, axes: str) -> np.ndarray:
    return np.asarray(ornt_transform(io_orientation(affine), axcodes2ornt(axes)))


def turned_affine(affine: np.ndarray, axes: str | None, shape: Sequence[int]) -> np.ndarray:
    """Affine of a grid after :func:`turned`, which has brought it to a shape.

    Args:
        affine: voxel index to world before, 4x4.
        axes: axis codes; None leaves it as it is.
        shape: of the turned array.

    Example:
        >>> turned_affine(np.diag([-2.0, 1, 1, 1]), "RAS", (3, 1, 1))[0].tolist()
        [2.0, 0.0, 0.0, -4.0]
    """
    if axes is None:
        return affine
    turn = _turn(affine, axes)
    before = np.array(shape)[turn[:, 0].astype(int)]
    return np.asarray(affine @ inv_ornt_aff(turn, before))


def _image_affine(image: str, series: str | None) -> np.ndarray:
    """Voxel index to world; of NIfTI and DICOM series only the headers are read."""
    if Path(image).is_dir():
        return read_series(image, series).affine
    if not image.lower().endswith(NIFTI):
        return np.asarray(read_image(image).affine)
    nifti = nibabel.load(image)
    assert isinstance(nifti, nibabel.Nifti1Image)  # includes NIfTI-2
    return np.asarray(nifti.affine)
