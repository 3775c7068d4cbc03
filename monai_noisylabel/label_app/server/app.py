"""The app: review of suspicious labels, and the bundles of this library for inference, training and scoring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.random import Random

from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.server.datastore import ReviewDatastore
from monai_noisylabel.label_app.server.infer import BundleModel, StoredLabel, model_file
from monai_noisylabel.label_app.server.scoring import BundleScoring
from monai_noisylabel.label_app.server.strategies import NextCase
from monai_noisylabel.label_app.server.train import BundleTraining
from monai_noisylabel.label_app.workspace import CLEANSED, ORIGINAL, open_workspace

__all__ = ["NoisyLabelApp"]

PREDICTED = "predicted"
"""Tag of predictions; MONAI Label's own choice is that of the given labels."""


class NoisyLabelApp(MONAILabelApp):
    """Serves the folder of a review.

    Args:
        app_dir: folder of the app, which :func:`~monai_noisylabel.label_app.launch.make_app` makes.
        studies: folder of the review.
        conf: settings of the server.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.review = Review(open_workspace(studies))
        names = json.loads((Path(app_dir) / "bundles.json").read_text(encoding="utf-8"))
        self.bundles = {name: Path(app_dir) / "model" / name for name in names}
        manifest = self.review.workspace.spec.manifest
        super().__init__(
            app_dir,
            studies,
            conf,
            name=f"Label review: {manifest.name}",
            description=f"Reviews the labels of {manifest.name}; proposals of the audit have the tag {CLEANSED}.",
        )
        self._auto_update_scoring = False

    def init_datastore(self) -> ReviewDatastore:
        """The datastore of the review."""
        return ReviewDatastore(self.review)

    def init_infers(self) -> dict[str, Any]:
        """Proposed and given labels, and bundles that have weights.

        The proposal comes first: 3D Slicer runs the first model on each case it opens.
        """
        stored = {
            "proposal": StoredLabel(self.review, (CLEANSED, ORIGINAL), "The proposed label; the given one without"),
            "given_label": StoredLabel(self.review, (ORIGINAL,), "The label as it was given"),
        }
        return {**stored, **self._new_models(())}

    def init_trainers(self) -> dict[str, Any]:
        """All bundles."""
        return {name: BundleTraining(path, self.review.workspace, self.conf) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Any]:
        """Worst label first, most uncertain image first, and MONAI Label's random choice."""
        return {
            "worst_label_first": NextCase(self.review, "The most suspicious label that nobody has decided on"),
            "most_uncertain_first": NextCase(
                self.review, "The image that the model is most unsure of", lambda score: score.uncertainty
            ),
            "random": Random(),
        }

    def init_scoring_methods(self) -> dict[str, Any]:
        """The audit's score of labels, and the uncertainty of a bundle."""
        return {
            "label_quality": BundleScoring(
                self.review, self.bundles, self.conf, True, "The audit's suspicion of each label: the higher, the worse"
            ),
            "uncertainty": BundleScoring(
                self.review, self.bundles, self.conf, False, "Mean entropy of a bundle's prediction of each image"
            ),
        }

    def info(self) -> dict[str, Any]:
        """What clients are told, of bundles that have been trained meanwhile too."""
        self._infers.update(self._new_models(self._infers))
        found: dict[str, Any] = super().info()
        return found

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> Any:
        """Run a model; a prediction that is to be stored never takes the place of the given label."""
        self._infers.update(self._new_models(self._infers))
        if request.get("model") in self.bundles and request["model"] not in self._infers:
            raise HTTPException(409, f"Bundle {request['model']} has no weights yet; train it first.")
        tag = request.get("label_tag") or ORIGINAL
        wanted = {**request, "label_tag": PREDICTED if str(getattr(tag, "value", tag)) == ORIGINAL else tag}
        return super().infer(wanted, datastore)

    def batch_infer(self, request: Mapping[str, Any], datastore: Any = None) -> Any:
        """Run a model on many images; MONAI Label fails without a GPU if it is not told so."""
        return super().batch_infer({"multi_gpu": torch.cuda.is_available(), **request}, datastore)

    def _new_models(self, known: Any) -> dict[str, BundleModel]:
        """Bundles that have weights and are not served yet."""
        ready = {name: path for name, path in self.bundles.items() if name not in known and model_file(path).is_file()}
        return {name: BundleModel(path, self.review.workspace, self.conf) for name, path in ready.items()}
