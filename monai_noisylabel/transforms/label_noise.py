"""Simulated label noise as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_data_type, convert_to_dst_type

from monai_noisylabel.corruption import NoiseRecipe, corrupt
from monai_noisylabel.data.predicted_labels import PredictedLabels

__all__ = ["SimulateLabelNoised", "label_spacing"]


class SimulateLabelNoised(MapTransform):
    r"""Replace the label of a training case by a noisy one and keep the clean one beside it.

    The noise is a function of (seed, case, class) and not a random augmentation: a case has the same noisy
    label in every epoch, worker and run. So put this transform among the deterministic ones, where
    ``CacheDataset`` may keep its result (``PersistentDataset`` too, with a ``hash_transform`` or with one
    folder per recipe and seed), and after those that give the label its final grid, since shifts are counted
    in voxels of that grid. Use it for training cases only: scores belong to clean labels. ``recipe="none"``
    leaves the label as it is and still writes the clean one, so that a pipeline need not change.

    Labels that a model of the name ``predicted`` takes from a folder are brought to the grid of the training label by
    where they lie in the world, see :class:`monai_noisylabel.data.PredictedLabels`.

    Args:
        keys: key of the label; exactly one.
        recipe: noise recipe, see :meth:`monai_noisylabel.corruption.NoiseRecipe.parse`.
        seed: seed of the experiment.
        num_classes: classes including background for a multi-class label, channels for a multi-label one.
        multi_label: how the label is written.
        case_key: key of the name of the case.
        patient_key: key of the patient's name; only recipes with ``share_of="patient"`` need it.
        image_key: key of the image, a file name or a MetaTensor that holds it: predicted labels are named like it, or
            like the case.
        clean_key: key for the untouched label, the object that came in; None to drop it.
        record_key: key for what was drawn and achieved, a plain dictionary; None to drop it. See
            :class:`monai_noisylabel.corruption.NoiseRecord`.
        allow_missing_keys: pass on data without a label unchanged.

    Shape:
        label (1, \*S) multi-class or (K, \*S) multi-label, tensor or array; result the same kind, with the
        same dtype, device and metadata. The spacing that recipes with ``unit="mm"`` need, and other models use
        where it is there, is that of a MetaTensor's affine.

    Raises:
        ValueError: if ``keys`` is not one key, for an invalid recipe, if the data holds ``clean_key``
            already, where :func:`monai_noisylabel.corruption.corrupt` raises, and if a predicted label does not fit.
        KeyError: if the label or the name of the case is absent.
        FileNotFoundError: if a predicted label, or the folder for it, does not exist.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 32, 32, dtype=torch.uint8)
        >>> label[0, 8:24, 8:24] = 1
        >>> noise = SimulateLabelNoised("label", {"model": "missing", "alpha": 1.0}, num_classes=2)
        >>> data = noise({"case": "a", "label": label})
        >>> int(data["label"].sum()), int(data["clean_label"].sum())
        (0, 256)
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        keys: KeysCollection = "label",
        recipe: NoiseRecipe | str | Mapping[str, Any] | None = "none",
        seed: int = 0,
        *,
        num_classes: int,
        multi_label: bool = False,
        case_key: str = "case",
        patient_key: str = "patient",
        image_key: str = "image",
        clean_key: str | None = "clean_label",
        record_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"SimulateLabelNoised corrupts one label, got the keys {list(self.keys)}.")
        self.recipe = NoiseRecipe.parse(recipe)
        self.seed = seed
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.case_key = case_key
        self.patient_key = patient_key
        self.image_key = image_key
        self.predicted = {folder: PredictedLabels(folder) for folder in self.recipe.label_folders}
        self.clean_key = clean_key
        self.record_key = record_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Data with the noisy label, and the clean label and the record where asked for."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.case_key not in d:
                raise KeyError(
                    f"Data has no {self.case_key!r}, the name of the case that its noise depends on; "
                    f"it has {sorted(map(str, d))}. Add it to the data or set case_key."
                )
            if self.clean_key in d:
                raise ValueError(
                    f"Case {d[self.case_key]!r} already holds {self.clean_key!r}: its label has been made "
                    "noisy before, or comes with a clean one. Remove this transform or set another clean_key."
                )
            label = d[key]
            noisy, record = corrupt(
                convert_data_type(label, np.ndarray)[0],
                str(d[self.case_key]),
                self.recipe,
                self.seed,
                num_classes=self.num_classes,
                multi_label=self.multi_label,
                spacing=label_spacing(label),
                patient=None if d.get(self.patient_key) is None else str(d[self.patient_key]),
                surfaces=self.record_key is not None,
                prediction=partial(self._prediction, d, label),
            )
            d[key] = convert_to_dst_type(noisy, label)[0]
            if self.clean_key is not None:
                d[self.clean_key] = label
            if self.record_key is not None:
                d[self.record_key] = record.as_dict()
        return d

    def _prediction(self, data: Mapping[Hashable, Any], label: Any, folder: str) -> np.ndarray:
        """The predicted label of a case, or of a slice of a volume whose case id ends in its number."""
        image = data.get(self.image_key, "")
        path = getattr(image, "meta", {}).get("filename_or_obj", "") if isinstance(image, torch.Tensor) else image
        case = str(data[self.case_key])
        volume = case if getattr(label, "meta", {}).get("slice") is None else case.rpartition("/")[0]
        return self.predicted[folder].label_on(label, volume, str(path[0] if isinstance(path, list) else path))


def label_spacing(label: Any) -> list[float] | None:
    r"""Voxel size of a label in mm along each of its axes, also of a slice that keeps its volume's affine.

    Args:
        label: a MetaTensor; of anything else the spacing is not known: None is returned.

    Shape:
        label (C, \*S) with S of 2 or 3 axes.

    Example:
        >>> import torch
        >>> affine = torch.tensor([[0, 0.8, 0, 0], [0, 0, 0.9, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
        >>> label_spacing(MetaTensor(torch.zeros(1, 4, 4), affine=affine))
        [5.0, 0.8]
    """
    if not isinstance(label, MetaTensor):
        return None
    affine = label.affine.double()
    spacing = torch.linalg.vector_norm(affine[:-1, :-1], dim=0)
    return [float(size) for size in spacing[: label.ndim - 1]]
