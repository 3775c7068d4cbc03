"""How suspicious the label of each case is, and how unsure a model of its image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["CaseScore", "read_scores", "write_scores"]


@dataclass(frozen=True)
class CaseScore:
    """Scores of a case; the higher, the worse.

    Args:
        label_quality: suspicion of its label in [0, 1], as the audit's; None: not judged. As in MONAI's
            ``LabelQualityScore``, a high value stands for a bad label.
        structures: suspicion of each structure.
        source: what judged it: ``"audit"``, or the name of a bundle.
        uncertainty: mean entropy of a bundle's prediction in [0, 1]; None: not predicted.
    """

    label_quality: float | None = None
    structures: dict[str, float] = field(default_factory=dict)
    source: str = ""
    uncertainty: float | None = None

    @property
    def structure(self) -> str:
        """The most suspicious structure; empty where there is none."""
        return max(self.structures, key=lambda name: self.structures[name], default="")

    def for_viewer(self) -> dict[str, Any]:
        """What MONAI Label keeps and shows with an image."""
        shown = {
            "label_quality": self.label_quality,
            "label_quality_structure": self.structure,
            "label_quality_source": self.source,
            "uncertainty": self.uncertainty,
        }
        return {name: value for name, value in shown.items() if value not in (None, "")}


def read_scores(root: Path) -> dict[str, CaseScore]:
    """Scores in the folder of a review."""
    path = root / "review" / "scores.json"
    if not path.is_file():
        return {}
    return {case: CaseScore(**values) for case, values in json.loads(path.read_text(encoding="utf-8")).items()}


def write_scores(scores: Mapping[str, CaseScore], root: Path) -> None:
    """Write the scores of all cases into the folder of a review, in one step."""
    content = {case: asdict(score) for case, score in scores.items()}
    write_atomically(json.dumps(content, indent=2) + "\n", root / "review" / "scores.json")
