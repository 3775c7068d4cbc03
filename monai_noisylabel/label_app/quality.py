"""Scores of labels and images by a bundle's probabilities: the audit's, and how unsure the bundle is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.audit.case_audit import CaseAuditor
from monai_noisylabel.audit.cohort import Cohort
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.audit.problems import CaseStream, problems_of
from monai_noisylabel.audit.ranking import ranked
from monai_noisylabel.audit.shape_facts import label_facts
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.selection import confident_limits

__all__ = ["label_suspicions", "mean_entropy"]

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]


def label_suspicions(
    spec: DatasetSpec, items: Mapping[str, Item], folder: ProbabilityFolder, out: Path
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Suspicion of each case and its structures, as an audit with these probabilities gives it.

    The probabilities should be of a model that did not train on these labels: one that did has learned their errors
    and finds few. ``noisylabel audit --bundle`` trains such models.

    Args:
        spec: the dataset.
        items: the cases, by name, with the labels to judge.
        folder: probabilities of the cases.
        out: folder for error maps and proposals.

    Returns:
        For each case the suspicion of each structure and, under the empty name, of its label; and what went wrong
        with the others.

    Raises:
        ValueError: if no case has usable probabilities.
    """
    failed: dict[str, str] = {}
    facts = _each(items, lambda case, item: label_facts(read_case_label(item, spec)), failed)
    cohort = Cohort(facts, spec.classes)
    stream = CaseStream({case: items[case] for case in facts}, spec, folder)
    problems = problems_of(spec)
    limits = [confident_limits(stream.of(problem)) for problem in problems]
    auditor = CaseAuditor(spec, cohort, out, problems, limits, folder)
    results = _each(
        {case: items[case] for case in facts}, lambda case, item: auditor.audit(case, item, facts[case]), failed
    )
    return ranked(results, spec.classes)[1], failed


def mean_entropy(p: np.ndarray, multi_label: bool) -> float:
    r"""How unsure a prediction is: its mean entropy, as a share of the highest possible.

    .. math:: \frac{-1}{|U| \log C} \sum_{u \in U} \sum_{c=1}^{C} p_{uc} \log p_{uc}

    over the voxels U where the model has looked (elsewhere p is NaN); structures that may overlap are problems of two
    classes, over which the mean is taken.

    Args:
        p: probabilities, background first, or of each structure for multi-label.
        multi_label: whether structures may overlap.

    Shape:
        p (C, \*S).

    Example:
        >>> mean_entropy(np.array([[0.5, 1.0], [0.5, 0.0]]), multi_label=False)
        0.5
        >>> mean_entropy(np.array([[0.5, np.nan], [1.0, np.nan]]), multi_label=True)
        0.5
    """
    seen = p[:, ~np.isnan(p).any(0)].astype(np.float64)
    if not seen.size:
        return 0.0
    parts = np.stack([seen, 1 - seen]) if multi_label else seen[:, None]
    entropy = -(parts * np.log(np.clip(parts, 1e-12, 1))).sum(0)
    return float(entropy.mean() / np.log(len(parts)))


def _each(items: Mapping[str, Item], work: Callable[[str, Item], Any], failed: dict[str, str]) -> dict[str, Any]:
    """What comes of each case; what goes wrong with one is noted, and the others go on."""
    results = {}
    for case, item in items.items():
        try:
            results[case] = work(case, item)
        except Exception as error:
            logger.error(f"Case {case!r} was not judged: {error}")
            failed[case] = f"{type(error).__name__}: {error}"
    return results
