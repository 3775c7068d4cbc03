"""Probabilities of held-out cases, predicted by a bundle and kept on the grid of the image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_noisylabel.data.dataset_spec import load_dataset, volume_of
from monai_noisylabel.data.label_export import file_name_of
from monai_noisylabel.data.label_geometry import lifted

__all__ = ["PROBABILITY", "AddCoveraged", "SaveProbabilityd", "held_out_items", "probability_path"]

PROBABILITY = "probability"
"""Name of the array in a file of probabilities that this library wrote."""


def probability_path(folder: Path, case: str) -> Path:
    """File of the probabilities of a case in a folder that :class:`SaveProbabilityd` writes into."""
    return folder / f"{file_name_of(case)}.npz"


class AddCoveraged(MapTransform):
    r"""Appends a channel of ones to probabilities, so that after ``Invertd`` it says where the network looked.

    Preprocessing may crop; what its inversion pads there is no prediction, though it looks like one.

    Args:
        keys: key of the probabilities.

    Shape:
        (C, \*S); result (C + 1, \*S).
    """

    def __init__(self, keys: KeysCollection = "pred") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Data with the longer probabilities."""
        d = dict(data)
        for key in self.keys:
            p = d[key]
            meta = p.meta if isinstance(p, MetaTensor) else None
            plain = torch.as_tensor(p).float()
            d[key] = MetaTensor(torch.cat([plain, torch.ones_like(plain[:1])]), meta=meta)
        return d


class SaveProbabilityd(MapTransform):
    r"""Writes probabilities that ``Invertd`` has put back on the grid of their image, one file per case.

    The file holds ``probability``, float16 (C, \*S) with the axes of the image file and NaN where the network has not
    looked, and ``affine``, 4x4. It appears once it is complete.

    Args:
        keys: key of the probabilities with the channel of :class:`AddCoveraged`.
        output_dir: folder of the files.
        case_key: key of the name of the case.
    """

    def __init__(
        self, keys: KeysCollection = "pred", *, output_dir: str | os.PathLike[str], case_key: str = "case"
    ) -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, after writing."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for key in self.keys:
            found = data[key]
            values = found.as_tensor().float().cpu()
            covered = values[-1:]
            p = torch.where(covered > 0.5, values[:-1] / covered.clamp(min=0.5), torch.nan).clamp(0, 1)
            target = probability_path(self.output_dir, str(data[self.case_key]))
            draft = target.with_name(f".{os.getpid()}-{target.name}")
            affine = lifted(np.asarray(found.affine, dtype=float))
            content: dict[str, Any] = {PROBABILITY: p.half().numpy(), "affine": affine}
            np.savez_compressed(draft, **content)
            os.replace(draft, target)
        return dict(data)


def held_out_items(
    manifest: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Test cases of a fold whose probabilities have not been written yet; whole volumes also for a 2D network.

    Args:
        manifest: manifest of the fold.
        dataset_dir: folder of the dataset.
        output_dir: where probabilities are written.
        spatial_dims: as in the training.
        classes: as in the training.
    """
    spec = load_dataset(manifest, dataset_dir, spatial_dims=spatial_dims, classes=classes)
    volumes = {volume_of(item): item for item in spec.test}
    return [
        {"image": item["image"], "label": item["label"], "case": case}
        for case, item in volumes.items()
        if not probability_path(Path(output_dir), case).exists()
    ]
