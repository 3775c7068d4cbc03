"""How well an audit finds simulated errors, beside cleanlab and MONAI on the same probabilities."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.metrics import label_quality_score
from PIL import Image

from monai_noisylabel.audit import BundleFolds, audit_dataset
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.audit.problems import Problem, problem_arrays, problems_of
from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.data.case_label import CaseLabel, paths_of, read_case_label, turned
from monai_noisylabel.estimation import softmin_quality
from monai_noisylabel.metrics import auroc, average_precision, detection_counts, precision_recall
from monai_noisylabel.selection import confident_limits, label_errors


@dataclass(frozen=True)
class Row:
    """One way to find errors: its voxels, and how it ranks the cases. NaN where it does not do the one or the other."""

    name: str
    precision: float
    recall: float
    auroc: float
    ap: float

    def __str__(self) -> str:
        return f"{self.name:34s}" + "".join(
            f"{value:9.3f}" for value in (self.precision, self.recall, self.auroc, self.ap)
        )


HEADER = f"{'':34s}" + "".join(f"{name:>9s}" for name in ("precision", "recall", "AUROC", "AP"))


class Simulation:
    """A dataset with simulated errors, as ``noisylabel simulate --with_images`` writes it, and its clean labels.

    Args:
        noisy: folder of the simulation.
        clean: folder of the dataset that it was made from.
        spatial_dims: of the run.
    """

    def __init__(self, noisy: Path, clean: Path, spatial_dims: int | None) -> None:
        self.noisy = noisy
        self.clean = clean
        self.spec: DatasetSpec = load_dataset(noisy / "manifest.json", noisy, spatial_dims=spatial_dims)
        self.items = {str(item.get("volume", item["case"])): item for item in self.spec.train}
        wrong: dict[str, bool] = defaultdict(bool)
        for line in (noisy / "records.jsonl").read_text().splitlines():
            record = json.loads(line)
            wrong[record["volume"]] |= any(dice < 1 for dice in record["dice"].values())
        self.wrong = {case: wrong[case] for case in self.items}

    def cases(self, problem: Problem, folder: ProbabilityFolder) -> Iterator[tuple[str, np.ndarray, np.ndarray, Any]]:
        """Name, given class, probabilities and true class of every case."""
        for case, item in self.items.items():
            label = read_case_label(item, self.spec)
            files = [str(self.clean / Path(path).relative_to(self.noisy)) for path in paths_of(item["label"])]
            truth = read_case_label(
                {**item, "label": files if isinstance(item["label"], list) else files[0]}, self.spec
            )
            probabilities = folder.read(item, label)
            given, p = problem_arrays(problem, label.masks, probabilities)
            yield case, given, p, problem_arrays(problem, truth.masks, probabilities)[0]

    def rows(self, out: Path, probabilities: Path | None, folds: BundleFolds | None = None) -> list[Row]:
        """The table; probabilities are made by the audit where a bundle is given instead."""
        report = audit_dataset(
            self.noisy / "manifest.json",
            self.noisy,
            out,
            probabilities=probabilities,
            folds=folds,
            spatial_dims=self.spec.spatial_dims,
        )
        assert not report.failed, report.failed
        folder = ProbabilityFolder(probabilities or out / "probabilities", self.spec)
        table = {row["case"]: float(row["score"]) for row in csv.DictReader((out / "cases.csv").open())}
        return [
            self._row("audit", table, self._maps(out, folder)),
            *self._confident(folder),
            self._row("MONAI LabelQualityScore", self._mean(folder, _quality), None),
        ]

    def _row(self, name: str, scores: dict[str, float] | None, counts: torch.Tensor | None) -> Row:
        found = (float("nan"),) * 2 if counts is None else precision_recall(counts)
        if scores is None:
            return Row(name, *found, float("nan"), float("nan"))
        suspicion = torch.tensor([scores[case] for case in self.items], dtype=torch.float64)
        wrong = torch.tensor(list(self.wrong.values()))
        return Row(name, *found, auroc(suspicion, wrong), average_precision(suspicion, wrong))

    def _mean(self, folder: ProbabilityFolder, score: Any) -> dict[str, float]:
        """Mean over the problems of a score of each case."""
        sums: dict[str, list[float]] = defaultdict(list)
        for problem in problems_of(self.spec):
            for case, given, p, _ in self.cases(problem, folder):
                sums[case].append(score(given, p))
        return {case: float(np.mean(values)) for case, values in sums.items()}

    def _maps(self, out: Path, folder: ProbabilityFolder) -> torch.Tensor:
        """Voxels that the error maps on disk name."""
        total = torch.zeros(3, dtype=torch.int64)
        for problem in problems_of(self.spec):
            ending = f"_{problem.name}" if problem.name else ""
            for case, given, _, truth in self.cases(problem, folder):
                label = read_case_label(self.items[case], self.spec)
                path = out / "errors" / f"{case}{ending}{label.sources[0].suffix}"
                found = _map(path, label) if path.exists() else np.zeros(given.shape)
                total += detection_counts(torch.from_numpy(found > 0), torch.from_numpy(given != truth))
        return total

    def _confident(self, folder: ProbabilityFolder) -> list[Row]:
        """Confident learning by itself: ours, and cleanlab's where it is installed."""
        ours = torch.zeros(3, dtype=torch.int64)
        theirs = torch.zeros(3, dtype=torch.int64)
        installed = _cleanlab()
        for problem in problems_of(self.spec):
            cases = [
                (torch.from_numpy(p), torch.from_numpy(given), torch.from_numpy(given != truth))
                for _, given, p, truth in self.cases(problem, folder)
            ]
            limits = confident_limits([case[:2] for case in cases])
            for p, given, wrong in cases:
                ours += detection_counts(label_errors(p, given, limits), wrong)
            if installed:
                from cleanlab.filter import find_label_issues

                p, given = torch.cat([c[0].flatten(1) for c in cases], 1).T, torch.cat([c[1].flatten() for c in cases])
                issues = find_label_issues(given.numpy(), p.numpy(), filter_by="prune_by_noise_rate", n_jobs=1)
                theirs += detection_counts(torch.from_numpy(issues), torch.cat([c[2].flatten() for c in cases]))
        rows = [self._row("confident voxels", None, ours)]
        if installed:
            return [*rows, self._row("cleanlab 2.9, softmin", self._mean(folder, _cleanlab_softmin), theirs)]
        return [*rows, self._row("softmin, as in cleanlab", self._mean(folder, _softmin), None)]


def _map(path: Path, label: CaseLabel) -> np.ndarray:
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return np.asarray(picture).T
    return turned(np.asarray(nibabel.load(path).dataobj), label.sources[0].affine, label.axes)


def _cleanlab() -> bool:
    try:
        import cleanlab  # noqa: F401
    except ImportError:
        return False
    return True


def _softmin(given: np.ndarray, p: np.ndarray) -> float:
    return 1 - softmin_quality(torch.from_numpy(p), torch.from_numpy(given))


def _cleanlab_softmin(given: np.ndarray, p: np.ndarray) -> float:
    from cleanlab.segmentation.rank import get_label_quality_scores

    flat = given.reshape(1, 1, -1).astype(int), p.reshape(1, len(p), 1, -1)
    return 1 - float(get_label_quality_scores(*flat, verbose=False)[0][0])


def _quality(given: np.ndarray, p: np.ndarray) -> float:
    one_hot = given == np.arange(len(p)).reshape(-1, *[1] * given.ndim)
    score = label_quality_score(torch.from_numpy(p)[None], torch.from_numpy(one_hot)[None])
    assert score is not None
    return float(score[0])
