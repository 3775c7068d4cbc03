"""Labels that a model predicted for the images of a dataset, found by their names and brought to a training grid."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from monai_noisylabel.data.label_geometry import OUTSIDE, geometry_of, lifted, onto_grid, way_beside
from monai_noisylabel.data.read_image import ITK, NIFTI, PICTURES, image_stem, read_image, read_label

__all__ = ["PredictedLabels"]

Grid = tuple[np.ndarray, tuple[int, ...]]
"""Voxel index to world, and shape."""


class PredictedLabels:
    """A folder of predicted labels, as the ``inference.json`` of a bundle writes them.

    There is one file per image, on the image's grid, named like the image or the case, with or without ``_seg``. It
    holds the numbers 0 to K of the classes of the training, or one channel of 0 and 1 per structure. Folders do not
    matter, unless several files have the name: then that one counts whose folders are those of the image.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: if it does not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{root} is no folder of predicted labels; give the one that the inference.json of the other model's "
                "bundle wrote, its --output_dir."
            )
        self._files: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and path.name.lower().endswith((*NIFTI, *PICTURES, *ITK)):
                self._files[image_stem(path.name)].append(path)
        self._taken: dict[Path, str] = {}

    def path_of(self, case: str, image: str) -> Path:
        """File of a case.

        Args:
            case: name of the case; for a slice, that of its volume.
            image: path of its image; empty where it is not known.

        Raises:
            FileNotFoundError: if there is none, or more than one.
            ValueError: if it is the file of another case too.
        """
        stem = image_stem(Path(image).name)
        wanted = dict.fromkeys(name + ending for name in (case, stem) if name for ending in ("", "_seg"))
        found = list(dict.fromkeys(path for name in wanted for path in self._files.get(name, ())))
        if len(found) > 1:
            found = [path for path in found if self._lies_as(path, Path(image))] or found
        if len(found) != 1:
            which = f"there are {len(found)}: {', '.join(map(str, found))}" if found else "there is none"
            raise FileNotFoundError(
                f"Case {case!r}: {self.root} must hold one predicted label named {' or '.join(wanted)}; {which}. "
                "Predict every training image with the inference.json of the other model's bundle."
            )
        other = self._taken.setdefault(found[0], case)
        if other != case:
            raise ValueError(f"{found[0]} fits the cases {other!r} and {case!r}; name predicted labels like the cases.")
        return found[0]

    def _lies_as(self, path: Path, image: Path) -> bool:
        """Whether a file lies in folders of the same names as an image."""
        folders = path.parent.relative_to(self.root).parts
        if folders and folders[-1] == image_stem(image.name):
            folders = folders[:-1]
        return bool(folders) and image.parent.parts[-len(folders) :] == folders

    def label_on(self, label: torch.Tensor, case: str, image: str) -> np.ndarray:
        r"""The predicted label of a case on the grid of its training label, by the nearest voxel.

        What preprocessing did to the label happens to the prediction too; only where resampling meets the middle
        between two voxels may it take the other one. Padding is background.

        Args:
            label: MetaTensor whose affine says where it lies; for a slice, see
                :func:`~monai_noisylabel.data.label_geometry.geometry_of`. What its metadata say of the original grid
                (``"original_affine"``, ``"spatial_shape"``), else its own, has to be the grid of the prediction.
            case: name of the case, as :meth:`path_of`.
            image: path of its image, as :meth:`path_of`.

        Shape:
            label (C, \*S); result (channels of the prediction, \*S), int16.

        Raises:
            FileNotFoundError: as :meth:`path_of`.
            ValueError: if the prediction lies on another grid or holds no whole numbers, or the place of the label
                is not known.
        """
        geometry = geometry_of(label)
        if geometry is None:
            raise ValueError(f"Case {case!r}: a predicted label needs a MetaTensor as label, which says where it lies.")
        path = self.path_of(case, image)
        values, affine = _read(str(path), path.stat().st_mtime_ns)
        shape, target = geometry["shape"], np.array(geometry["affine"])
        while values.ndim - 1 > len(shape) and values.shape[-1] == 1:
            values = values[..., 0]
        meta = getattr(label, "meta", {})
        own = np.asarray(meta.get("original_affine", target)), meta.get("spatial_shape", shape)
        _require_same_grid(path, (affine, values.shape[1:]), (lifted(own[0]), tuple(map(int, own[1]))))
        if "slice" in geometry:
            target = target @ _moved_along_last_axis(geometry["slice"])
            shape = [*shape[:2], 1]
        if len(shape) == 3:  # axes that run alike, as when the label was resized: ties are then decided alike
            turn = ornt_transform(io_orientation(affine), io_orientation(target))
            affine = affine @ inv_ornt_aff(turn, values.shape[1:])
            values = np.stack([apply_orientation(channel, turn) for channel in values])
        result = np.stack([onto_grid(channel, affine, target, shape) for channel in values])
        result[result == OUTSIDE] = 0
        return result[..., 0] if "slice" in geometry else result


@lru_cache(maxsize=2)
def _read(path: str, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (C, *S) and affine of a file; the slices of a volume are asked for one after the other."""
    file = read_label(path) if path.lower().endswith(PICTURES) else read_image(path)
    values = file.as_tensor().numpy()
    whole = values.astype(np.int16)
    if (whole != values).any():
        raise ValueError(f"{path}: a predicted label holds whole numbers; write classes instead of probabilities.")
    return whole, lifted(file.affine.numpy())


def _require_same_grid(path: Path, found: Grid, wanted: Grid) -> None:
    """Refuse a prediction that does not lie on a grid, up to the order and direction of the axes."""
    (affine, shape), (wanted_affine, wanted_shape) = _canonical(*found), _canonical(*wanted)
    if shape != wanted_shape:
        raise ValueError(
            f"{path}: has the shape {found[1]}, the image of its case {wanted[1]}; "
            "predict on the images of this dataset."
        )
    apart = way_beside(affine, wanted_affine, shape)
    if apart:
        raise ValueError(
            f"{path}: lies up to {apart:.3g} mm beside the image of its case; predict on the images of this dataset."
        )


def _canonical(affine: np.ndarray, shape: Sequence[int]) -> Grid:
    """Affine and shape of a grid after its axes are turned to RAS, as far as that goes without resampling."""
    volume = (*shape, 1)[:3]
    turn = io_orientation(affine)
    turned = np.empty(3, int)
    turned[turn[:, 0].astype(int)] = volume
    return affine @ inv_ornt_aff(turn, volume), tuple(turned.tolist())


def _moved_along_last_axis(steps: int) -> np.ndarray:
    move = np.eye(4)
    move[2, 3] = steps
    return move
