"""Training of a bundle on the labels as they are now: reviewed where they were reviewed, given elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.tasks.train.bundle import BundleTrainTask

from monai_noisylabel.label_app.current import current_dataset
from monai_noisylabel.label_app.workspace import Workspace

__all__ = ["BundleTraining"]

OFFERED = ("batch_size", "learning_rate", "seed", "augment")
"""Settings of a bundle that a client may change."""

LOADER = "CheckpointLoader"


class BundleTraining(BundleTrainTask):
    """Trains a bundle on the training cases of the dataset and chooses the model by its validation cases.

    MONAI Label would train on the labels with the tag ``final`` alone, in the values of the viewer. Here every bundle
    gets the dataset as its manifest describes it, with the reviewed labels in place of the given ones, so that methods
    for unreliable labels have those that nobody has reviewed yet. The result is ``models/model.pt``, as always.

    Args:
        bundle: folder of the bundle.
        workspace: the review.
        conf: settings of the server.
    """

    def __init__(self, bundle: Path, workspace: Workspace, conf: Mapping[str, str]) -> None:
        self.workspace = workspace
        self.chosen: dict[str, Any] = {}
        super().__init__(str(bundle), conf, load_strict=True)

    def config(self) -> dict[str, Any]:
        """Options that a client shows; those of the bundle have its own values."""
        options: dict[str, Any] = super().config()
        options["pretrained"] = False
        del options["val_split"], options["model_filename"]
        for name in ("max_epochs", *OFFERED):
            if self.bundle_config.get(name) is not None:
                options[name] = self.bundle_config.get(name)
        return options

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> Any:
        """Train.

        Args:
            request: options of :meth:`config`.
            datastore: of MONAI Label; the labels come from the review instead.
        """
        try:
            current_dataset(self.workspace.root)
        except ValueError as error:
            raise HTTPException(409, f"Nothing can be trained on: {error}") from None
        defaults = {"pretrained": False, "max_epochs": self.bundle_config.get("max_epochs")}
        wanted = {**defaults, **request}
        self.chosen = {name: wanted[name] for name in OFFERED if name in wanted and name in self.bundle_config.config}
        return super().__call__(wanted, datastore)

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Any) -> list[dict[str, Any]]:
        return []

    def _partition_datalist(
        self, datalist: Any, request: Mapping[str, Any], shuffle: bool = False
    ) -> tuple[list[dict[str, Any]], None]:
        return [], None

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[dict[str, Any]]) -> None:
        train_handlers[:] = [handler for handler in train_handlers if handler.get("_target_") != LOADER]
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Put the dataset in place of MONAI Label's list of files."""
        workspace = self.workspace
        overrides["max_epochs"] = overrides.pop("train#trainer#max_epochs")
        del overrides["train#dataset#data"]
        overrides.update(
            data={"_target_": "monai_noisylabel.label_app.current.current_dataset", "studies": str(workspace.root)},
            manifest=str(workspace.root / "manifest.json"),
            dataset_dir=str(workspace.spec.dataset_dir),
            spatial_dims=workspace.spec.spatial_dims,
            classes=list(workspace.spec.classes),
            noise="none",
            resume=False,
            **self.chosen,
        )
        return overrides
