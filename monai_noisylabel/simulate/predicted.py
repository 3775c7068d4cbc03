"""Model noise: labels that another model predicted, in place of the given ones."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from monai_noisylabel.corruption.model import Draw, present_structures
from monai_noisylabel.corruption.record import Parameters
from monai_noisylabel.data.read_image import ITK, NIFTI, PICTURES, read_image, read_label
from monai_noisylabel.masks import to_masks
from monai_noisylabel.simulate.case_label import CaseLabel, paths_of, turned

__all__ = ["PredictedLabels", "PredictedNoise"]


@dataclass(frozen=True)
class PredictedNoise:
    """Noise model of one case: its label becomes the predicted one.

    Simulates labels pre-filled by a tool that nobody checked: the errors of one model, alike from case to case.

    Args:
        masks: masks (K, *S) of the predicted structures.
        file: where they come from, for the record.

    Example:
        >>> noise = PredictedNoise(np.array([[1, 0]], bool), "a_seg.nii.gz")
        >>> noisy, drawn = noise.apply(np.array([[1, 1]], bool), np.random.default_rng, spacing=None, overlap=False)
        >>> noisy.astype(int).tolist(), drawn
        ([[1, 0]], {'1': {'file': 'a_seg.nii.gz'}})
    """

    may_add: ClassVar[bool] = True
    may_empty: ClassVar[bool] = True

    masks: np.ndarray
    file: str

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; nothing is drawn."""
        return self.masks.copy(), {str(number): {"file": self.file} for number in present_structures(masks)}


class PredictedLabels:
    """A folder of predicted labels, as the ``inference.json`` of a bundle writes them.

    There is one file per image, on the image's grid, named like the image or the case, with or without ``_seg``;
    folders do not matter. It holds the numbers 0 to K of the classes, or one channel of 0 and 1 per structure.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: if it does not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{root} is no folder of predicted labels.")
        self._files: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and path.name.lower().endswith((*NIFTI, *PICTURES, *ITK)):
                self._files[_stem(path.name)].append(path)

    def path_of(self, item: Mapping[str, Any]) -> Path:
        """File of an item.

        Raises:
            FileNotFoundError: if there is none, or more than one.
        """
        names = [str(item.get("volume", item["case"])), _stem(Path(paths_of(item["image"])[0]).name)]
        wanted = dict.fromkeys(name + ending for name in names for ending in ("", "_seg"))
        found = list(dict.fromkeys(path for name in wanted for path in self._files.get(name, ())))
        if len(found) != 1:
            which = f"there are {len(found)}: {', '.join(map(str, found))}" if found else "there is none"
            raise FileNotFoundError(f"{self.root} must hold one predicted label named {' or '.join(wanted)}; {which}.")
        return found[0]

    def masks_of(self, path: Path, label: CaseLabel) -> np.ndarray:
        """Predicted masks (K, *S) in the axes of the case's label.

        Raises:
            ValueError: if the file does not fit the label in shape, number of structures or values.
        """
        file = read_label(str(path)) if path.name.lower().endswith(PICTURES) else read_image(str(path))
        values = file.as_tensor().numpy()
        dims = label.masks.ndim - 1
        while values.ndim - 1 > dims and values.shape[-1] == 1:
            values = values[..., 0]
        predicted = np.stack([turned(channel, file.affine.numpy(), label.axes) for channel in values])
        count = len(label.masks)
        channels, highest = (count, 1) if label.overlap else (1, count)
        if predicted.shape != (channels, *label.masks.shape[1:]):
            raise ValueError(
                f"{path}: a predicted label here has {channels} channel(s) of shape {label.masks.shape[1:]}, this "
                f"one has {len(predicted)} of {predicted.shape[1:]}. Predict on the images of this dataset."
            )
        if not np.isin(predicted, range(highest + 1)).all():
            raise ValueError(
                f"{path}: a predicted label here holds the numbers 0 to {highest}, this one values from "
                f"{predicted.min():g} to {predicted.max():g}. Predict the {count} classes of the manifest."
            )
        return to_masks(predicted, None if label.overlap else count + 1)


def _stem(name: str) -> str:
    endings = [ending for ending in (*NIFTI, *PICTURES, *ITK) if name.lower().endswith(ending)]
    return name[: -max(map(len, endings))] if endings else name
