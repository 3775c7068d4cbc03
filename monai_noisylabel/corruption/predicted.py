"""Model noise: the label that another model predicted, in place of the given one."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from .model import present_structures
from .record import Parameters

__all__ = ["PredictedNoise"]


@dataclasses.dataclass(frozen=True)
class PredictedNoise:
    """The label is the one that another model predicted, as with a tool that pre-fills labels nobody checks.

    Errors are those of one model, alike from case to case, as under source-free domain adaptation, where a model
    of another domain makes the labels. How wrong they are is the other model's matter: look at the measured Dice.
    It is the only model that takes more than the label, so it stands in recipes, not in
    :data:`~monai_noisylabel.corruption.NOISE_MODELS`: whoever calls
    :func:`~monai_noisylabel.corruption.corrupt` gives it a function that reads the prediction.

    Attributes:
        labels: folder of predicted labels, as the ``inference.json`` of a bundle writes them; see
            :class:`~monai_noisylabel.data.PredictedLabels`.

    Raises:
        ValueError: if no folder is named.

    Example:
        >>> from monai_noisylabel.corruption import corrupt
        >>> recipe = {"alpha": 1.0, "models": [{"model": "predicted", "labels": "runs/other/eval"}]}
        >>> label, predicted = np.array([[[1, 1, 0, 0]]]), np.array([[[0, 1, 1, 0]]])
        >>> form = {"num_classes": 2, "multi_label": False}
        >>> noisy, record = corrupt(label, "a", recipe, 0, prediction=lambda folder: predicted, **form)
        >>> noisy.tolist(), record.parameters
        ([[[0, 1, 1, 0]]], {'1': {'labels': 'runs/other/eval'}})

    References:
        X. Guo, Y. Yuan, Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy
        Labels.
    """

    may_add: ClassVar[bool] = True
    may_empty: ClassVar[bool] = True

    labels: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.labels, str) or not self.labels:
            raise ValueError(
                f"Noise model 'predicted': labels must name the folder of the predicted labels, got {self.labels!r}."
            )

    def drawn(self, masks: np.ndarray) -> Parameters:
        r"""What to record of each structure that a case holds; nothing is drawn.

        Args:
            masks: binary masks of structures 1 to K.

        Shape:
            masks (K, \*S).
        """
        return {str(number): {"labels": self.labels} for number in present_structures(masks)}
