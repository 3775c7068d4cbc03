"""Models that the server offers: the bundles, and labels that are there already."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monai.bundle import ConfigParser
from monai.transforms import AsDiscreted, Invertd, SaveImaged
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.tasks.infer.bundle import BundleInferTask

from monai_noisylabel.audit.predictions import AddCoveraged, SaveProbabilityd
from monai_noisylabel.data.case_label import paths_of
from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.workspace import ORIGINAL, Workspace

__all__ = ["BundleModel", "BundleProbabilities", "StoredLabel", "model_file"]

STATE = "training_state.pt"
"""Lies beside a bundle's models and is none."""


def model_file(bundle: Path) -> Path:
    """Weights that a bundle is served with."""
    return bundle / "models" / "model.pt"


class StoredLabel(InferTask):
    """Offers a label that is there already as if a model had predicted it.

    So every client can show the proposed and the given label of a case, with the means it has for running a model.

    Args:
        review: the review.
        tags: the first of these tags that a case has a label of is shown.
        description: what it is.
    """

    def __init__(self, review: Review, tags: Sequence[str], description: str) -> None:
        self.review = review
        self.tags = tuple(tags)
        workspace = review.workspace
        dimension = 3 if workspace.given(next(iter(workspace.items))).masks.ndim == 4 else 2
        super().__init__(InferType.SEGMENTATION, workspace.code.label_names, dimension, description)

    def is_valid(self) -> bool:
        """It needs nothing but the folder of the review."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """File with the label, a copy that the server removes, and what is known of the case."""
        workspace = self.review.workspace
        case = workspace.case_of(request["image"])
        if case is None:
            raise HTTPException(404, f"{request['image']} is no image of this review, so it has no stored label.")
        tag = next((tag for tag in self.tags if workspace.label(case, tag).is_file()), ORIGINAL)
        stored = workspace.label(case, tag)
        ending = "".join(stored.suffixes[-2:]) if stored.name.endswith(".nii.gz") else stored.suffix
        with tempfile.NamedTemporaryFile(suffix=ending, delete=False) as copy:
            shutil.copyfile(stored, copy.name)
        shown = {"label_names": workspace.code.label_names, "tag": tag, **self.review.sample(case)}
        return copy.name, shown


class BundleModel(BundleInferTask):
    """A bundle's network on the images of the dataset, in the values of the viewer.

    Args:
        bundle: folder of the bundle, with weights.
        workspace: the review that it is served in.
        conf: settings of the server.
    """

    def __init__(self, bundle: Path, workspace: Workspace, conf: Mapping[str, str], **options: Any) -> None:
        self.workspace = workspace
        super().__init__(
            str(bundle), conf, post_filter=[SaveImaged], add_post_restore=False, load_strict=True, **options
        )
        self._config["model_filename"] = [name for name in self._config["model_filename"] if name != STATE]
        self.labels = workspace.code.label_names
        self.dimension = workspace.spec.spatial_dims

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = super()._load_bundle_config(path, config)
        parser.config.update(
            manifest=str(self.workspace.root / "manifest.json"),
            spatial_dims=self.workspace.spec.spatial_dims,
            classes=list(self.workspace.spec.classes),
        )
        return parser

    def pre_transforms(self, data: dict[str, Any] | None = None) -> list[Callable[..., Any]]:
        """The bundle's own, on the dataset's files where the image is one of them."""
        return [self._dataset_files, *super().pre_transforms(data)]

    def post_transforms(self, data: dict[str, Any] | None = None) -> list[Callable[..., Any]]:
        """The bundle's own, then the values of the viewer."""
        return [*super().post_transforms(data), self._for_viewer]

    def _dataset_files(self, data: Mapping[str, Any]) -> dict[str, Any]:
        case = self.workspace.case_of(data["image"])
        if case is None:
            return dict(data)
        files = paths_of(self.workspace.items[case]["image"])
        return {**data, "image": files if len(files) > 1 else files[0], "case": case}

    def _for_viewer(self, data: Mapping[str, Any]) -> dict[str, Any]:
        spec, code = self.workspace.spec, self.workspace.code
        found = data["pred"].as_tensor().cpu().numpy()
        masks = found > 0 if spec.multi_label else np.stack([found[0] == k for k in range(1, spec.num_classes)])
        meta = {"affine": torch.as_tensor(np.asarray(data["image"].meta["original_affine"], dtype=float))}
        return {**data, "pred": torch.from_numpy(code.encode(masks)), "pred_meta_dict": meta, "result_dtype": "uint8"}


class BundleProbabilities(BundleModel):
    """The same network, which writes its probabilities on the grid of the image into a folder.

    Args:
        bundle: folder of the bundle, with weights.
        workspace: the review.
        conf: settings of the server.
        folder: where they are written, as :class:`~monai_noisylabel.audit.predictions.SaveProbabilityd` does.
    """

    def __init__(self, bundle: Path, workspace: Workspace, conf: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        super().__init__(bundle, workspace, conf, skip_writer=True)

    def post_transforms(self, data: dict[str, Any] | None = None) -> list[Callable[..., Any]]:
        """The bundle's own up to the probabilities, which are saved."""
        steps: list[Callable[..., Any]] = []
        for step in BundleInferTask.post_transforms(self, data):
            if isinstance(step, AsDiscreted):
                continue
            steps += [AddCoveraged("pred"), step] if isinstance(step, Invertd) else [step]
        return [*steps, SaveProbabilityd("pred", output_dir=self.folder)]
