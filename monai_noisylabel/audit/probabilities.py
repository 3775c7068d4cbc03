"""Probabilities that somebody's model predicted, on the grid of the given label."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from monai_noisylabel.audit.predictions import PROBABILITY
from monai_noisylabel.data.case_label import CaseLabel, paths_of, turned, turned_affine
from monai_noisylabel.data.dataset_spec import DatasetSpec, volume_of
from monai_noisylabel.data.label_geometry import way_beside
from monai_noisylabel.data.read_image import NIFTI, image_stem

__all__ = ["ProbabilityFolder"]

NNUNET = ("probabilities", "softmax")  # of version 2, of version 1
EXCESS = 1e-3
SUM_OFF = 0.05


class ProbabilityFolder:
    """A folder with the probabilities of every case, in files named like the case or its image.

    Understood are

    - ``.npz`` of this library, and any with one array ``(C, *S)`` whose axes are those of the image file; NaN says
      that the model has not looked there;
    - ``.npz`` of nnU-Net, with the array ``probabilities`` (version 2) or ``softmax`` (version 1), whose axes
      ``(C, z, y, x)`` are those of the image file reversed, and whose channels are label values. Its ``.pkl`` files are
      not read, since unpickling runs whatever they hold; so arrays that version 1 has cropped are refused;
    - NIfTI with the channels along the fourth axis, on the grid of the image.

    A multi-class problem has a channel for the background and one per structure, a multi-label one a channel per
    structure; with one structure its channel alone is enough. Where a ``.npz`` and a NIfTI have the name of a case, as
    nnU-Net writes them, the latter is a segmentation and left alone.

    Args:
        root: the folder.
        spec: the dataset.

    Raises:
        FileNotFoundError: if the folder does not exist, or holds no such file.
    """

    def __init__(self, root: str | os.PathLike[str], spec: DatasetSpec) -> None:
        self.root = Path(root)
        self.spec = spec
        if not self.root.is_dir():
            raise FileNotFoundError(f"{root} is no folder; --probabilities names one with a file per case.")
        self._files: dict[str, list[Path]] = defaultdict(list)
        for ending in (".npz", *NIFTI):
            for path in sorted(self.root.rglob(f"*{ending}")):
                if not path.name.startswith("."):
                    self._files[path.name[: -len(ending)]].append(path)
        if not self._files:
            raise FileNotFoundError(f"{root} holds neither .npz nor NIfTI files; --probabilities needs one per case.")

    def path_of(self, item: Mapping[str, Any]) -> Path:
        """File of a case.

        Raises:
            FileNotFoundError: if there is none, or more than one of its kind.
        """
        case, image = volume_of(item), Path(paths_of(item["image"])[0]).name
        names = dict.fromkeys((case, image_stem(image)))
        found = [path for name in names for path in self._files.get(name, ())]
        arrays = [path for path in found if path.suffix == ".npz"]
        found = arrays or found
        if len(found) != 1:
            which = f"there are {len(found)}: {', '.join(map(str, found))}" if found else "there is none"
            raise FileNotFoundError(
                f"{self.root} must hold one file {' or '.join(names)} with the ending .npz or .nii.gz; {which}"
            )
        return found[0]

    def read(self, item: Mapping[str, Any], label: CaseLabel) -> np.ndarray:
        r"""Probabilities of a case in the axes of its label.

        Args:
            item: the case.
            label: its label.

        Shape:
            Result float32 (K + 1, \*S), background first, or (K, \*S) for multi-label; NaN where the model has not
            looked.

        Raises:
            FileNotFoundError: as :meth:`path_of`.
            ValueError: if the file does not fit the label, or holds no probabilities; the message names it.
        """
        path = self.path_of(item)
        try:
            values, affine, reversed_axes = _array(path)
        except (OSError, EOFError, ValueError, KeyError, nibabel.filebasedimages.ImageFileError) as error:
            raise ValueError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
        axes = label.masks.ndim - 1
        while values.ndim - 1 > axes and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim == axes:
            values = values[None]
        values = self._channels(values, path, by_value=reversed_axes)
        self._check_place(path, values, affine, label, reversed_axes)
        own = label.sources[0].affine if affine is None else affine
        placed = np.stack([turned(channel, own, label.axes) for channel in values]).astype(np.float32)
        _check_values(path, placed, self.spec.multi_label)
        return placed

    def _channels(self, values: np.ndarray, path: Path, by_value: bool) -> np.ndarray:
        """Channels in the order of the classes, with the background first where there is one."""
        structures = len(self.spec.classes)
        wanted = structures + (not self.spec.multi_label)
        if by_value and not self.spec.multi_label and len(values) != 1:
            held = [self.spec.label_values[name] for name in self.spec.classes]
            numbers = [(1,) if entry is None else entry for entry in held]
            if max(max(entry) for entry in numbers) < len(values):
                chosen = [values[list(entry)].astype(np.float32).sum(0) for entry in numbers]
                return np.stack([1 - np.sum(chosen, axis=0), *chosen]).clip(0, 1)
        if len(values) == 1 and structures == 1 and not self.spec.multi_label:
            return np.concatenate([1 - values, values])
        if len(values) == 2 and structures == 1 and self.spec.multi_label:
            return values[1:]
        if len(values) != wanted:
            first = "" if self.spec.multi_label else "background, "
            raise ValueError(
                f"{path}: has {len(values)} channels, the audit needs {wanted}: {first}{', '.join(self.spec.classes)}. "
                "Check --classes."
            )
        return values

    def _check_place(
        self, path: Path, values: np.ndarray, affine: np.ndarray | None, label: CaseLabel, reversed_axes: bool
    ) -> None:
        own = label.sources[0].affine if affine is None else affine
        shape = turned(np.broadcast_to(np.uint8(0), values.shape[1:]), own, label.axes).shape
        wanted = label.masks.shape[1:]
        if shape != wanted:
            given = label.sources[0].values.shape
            advice = "predict on the images of this dataset and put the result back on their grid."
            if reversed_axes:
                advice = "nnU-Net version 1 crops what it exports: export with version 2, or pad it by crop_bbox."
            elif tuple(reversed(values.shape[1:])) == given:
                advice = "its axes are reversed: transpose it, or name the array 'probabilities', as nnU-Net does."
            raise ValueError(f"{path}: has the shape {values.shape[1:]}, the label {given}; {advice}")
        if affine is None or label.axes is None:
            return
        apart = way_beside(turned_affine(affine, label.axes, shape), label.affine, shape)
        if apart:
            raise ValueError(
                f"{path}: lies up to {apart:.3g} mm beside the image; predict on the images of this dataset."
            )


def _array(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Channel-first array of a file, its affine if it says where it lies, and whether it is one of nnU-Net."""
    if path.suffix != ".npz":
        volume = nibabel.load(path)
        assert isinstance(volume, nibabel.Nifti1Image)  # includes NIfTI-2
        data = np.asanyarray(volume.dataobj)
        return (np.moveaxis(data, 3, 0) if data.ndim == 4 else data[None]), np.asarray(volume.affine), False
    with np.load(path, allow_pickle=False) as content:
        for name in NNUNET:
            if name in content.files:
                array = content[name]
                return array.transpose(0, *range(array.ndim - 1, 0, -1)), None, True
        if PROBABILITY in content.files:
            return content[PROBABILITY], content["affine"] if "affine" in content.files else None, False
        if len(content.files) != 1:
            raise ValueError(f"it holds the arrays {content.files}; name the one to take {PROBABILITY!r}")
        return content[content.files[0]], None, False


def _check_values(path: Path, p: np.ndarray, multi_label: bool) -> None:
    seen = ~np.isnan(p).any(0)
    if not seen.any():
        raise ValueError(f"{path}: holds NaN only.")
    low, high = float(np.nanmin(p)), float(np.nanmax(p))
    if low < 0 or high > 1 + EXCESS:
        raise ValueError(f"{path}: holds values from {low:.4g} to {high:.4g}; apply softmax or sigmoid to logits.")
    if not multi_label:
        off = float(np.abs(p[:, seen].sum(0) - 1).max())
        if off > SUM_OFF:
            raise ValueError(f"{path}: its channels add up to 1 only within {off:.2g}; give softmax probabilities.")
