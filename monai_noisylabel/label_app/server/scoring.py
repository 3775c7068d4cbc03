"""Scoring methods: the audit's score of every label, and how unsure a bundle is of every image."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.scoring import ScoringMethod

from monai_noisylabel.audit.predictions import probability_path
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.data.dataset_spec import volume_of
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.label_app.current import with_reviewed_labels
from monai_noisylabel.label_app.quality import label_suspicions, mean_entropy
from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.scores import CaseScore, read_scores, write_scores
from monai_noisylabel.label_app.server.infer import BundleProbabilities, model_file

__all__ = ["BundleScoring"]

logger = logging.getLogger(__name__)


class BundleScoring(ScoringMethod):
    """Lets a bundle predict every image, judges labels and images by it, and keeps the scores.

    What has been predicted with the same weights is not predicted again.

    Args:
        review: the review.
        bundles: folders of the bundles, by name; those without weights cannot judge.
        conf: settings of the server.
        judge_labels: whether labels are judged too, or only how unsure the prediction is.
        description: what it is.
    """

    def __init__(
        self, review: Review, bundles: Mapping[str, Path], conf: Mapping[str, str], judge_labels: bool, description: str
    ) -> None:
        super().__init__(description)
        self.review = review
        self.bundles = bundles
        self.conf = conf
        self.judge_labels = judge_labels

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Score all cases.

        Args:
            request: ``{"model": name of a bundle, "device": ...}``; by default the first bundle with weights.
            datastore: shows the scores to clients.

        Returns:
            The bundle, the score of each case, and what went wrong with the others.
        """
        name = self._bundle(request.get("model"))
        workspace = self.review.workspace
        folder = workspace.root / "predictions" / name
        failed = self._predict(name, folder, request.get("device"))
        spec = with_reviewed_labels(self.review)
        current = {volume_of(item): item for item in spec.items_of("all")}
        items = {case: current[case] for case in workspace.items if case not in failed}
        scores = read_scores(workspace.root)
        probabilities = ProbabilityFolder(folder, spec)
        for case, item in items.items():
            p = probabilities.read(item, workspace.given(case))
            scores[case] = replace(scores.get(case, CaseScore()), uncertainty=mean_entropy(p, spec.multi_label))
        if self.judge_labels:
            found, unjudged = label_suspicions(spec, items, probabilities, workspace.root / "scoring" / name)
            failed |= unjudged
            for case, own in found.items():
                structures = {structure: value for structure, value in own.items() if structure}
                scores[case] = replace(scores[case], label_quality=own[""], structures=structures, source=name)
        write_scores(scores, workspace.root)
        datastore.show_scores()
        return {"model": name, "scores": {case: scores[case].for_viewer() for case in items}, "failed": failed}

    def _bundle(self, wanted: Any) -> str:
        trained = [name for name, folder in self.bundles.items() if model_file(folder).is_file()]
        if not trained or (wanted and wanted not in trained):
            which = f"{wanted} has no weights, or is not served" if wanted else "No bundle has weights"
            raise HTTPException(409, f"{which}; train one, or start the server with --weights NAME=model.pt.")
        return str(wanted or trained[0])

    def _predict(self, name: str, folder: Path, device: Any) -> dict[str, str]:
        """Write the probabilities of all cases that are not there yet; what went wrong."""
        weights = hashlib.sha256(model_file(self.bundles[name]).read_bytes()).hexdigest()
        mark = folder / "weights.json"
        if not mark.is_file() or json.loads(mark.read_text(encoding="utf-8")) != weights:
            for old in folder.rglob("*.npz"):
                old.unlink()
            write_atomically(json.dumps(weights) + "\n", mark)
        workspace = self.review.workspace
        missing = [case for case in workspace.items if not probability_path(folder, case).exists()]
        if not missing:
            return {}
        task = BundleProbabilities(self.bundles[name], workspace, self.conf, folder)
        failed = {}
        for case in missing:
            try:
                task({"image": str(workspace.image(case)), "case": case, "device": device})
            except Exception as error:  # whatever is wrong with one case, the others must not be lost
                logger.error(f"Case {case!r} was not predicted: {error}")
                failed[case] = f"{type(error).__name__}: {error}"
        return failed
