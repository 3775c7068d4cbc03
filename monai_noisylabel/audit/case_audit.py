"""The audit of one case: its regions, what the checks say, and the files that show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_noisylabel.audit.checks import check_case
from monai_noisylabel.audit.cohort import Cohort
from monai_noisylabel.audit.findings import Finding, most_suspicious_first
from monai_noisylabel.audit.picture import draw_overlay
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.audit.problems import Problem, problem_arrays
from monai_noisylabel.audit.proposals import proposed_masks, write_error_maps, write_proposal, write_proposed_seg
from monai_noisylabel.audit.regions import Region, error_regions
from monai_noisylabel.audit.scores import dice_with_floor, evidence_against, region_score, structure_size
from monai_noisylabel.audit.shape_facts import nearest_middle
from monai_noisylabel.data.case_label import CaseLabel, read_case_image, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.label_export import file_name_of
from monai_noisylabel.selection import ConfidentLimits, label_errors

__all__ = ["CaseAuditor"]

NEGLIGIBLE = 0.002
"""Regions of less suspicion are neither reported nor corrected."""
MOST_REGIONS = 12
OVERLAYS = 3
Scored = tuple[float, Region]


@dataclass(frozen=True)
class _Judged:
    """What is found in one problem of a case."""

    problem: Problem
    scored: list[Scored]
    measures: dict[str, dict[str, float]]


@dataclass(frozen=True)
class CaseAuditor:
    """Judges one case after the other.

    Args:
        spec: the dataset.
        cohort: what is usual in it.
        out: folder of the audit.
        problems: problems of the dataset.
        limits: what confident learning has counted for each of them; none without a model.
        folder: probabilities; None without a model.
        tolerance: boundary error that is none, in mm (pixels of pictures); None: one voxel.
        form: format of the proposed labels, one of :data:`~monai_noisylabel.data.corrected_seg.LABEL_FORMATS`.
    """

    spec: DatasetSpec
    cohort: Cohort
    out: Path
    problems: Sequence[Problem]
    limits: Sequence[ConfidentLimits] = ()
    folder: ProbabilityFolder | None = None
    tolerance: float | None = None
    form: str = "nifti"

    def audit(
        self, case: str, item: Mapping[str, Any], facts: Sequence[Mapping[str, Any]], with_model: bool = True
    ) -> dict[str, Any]:
        """Judge a case and write its error map, its proposed label and its pictures.

        Args:
            case: its name.
            item: its files.
            facts: of its structures.
            with_model: whether its probabilities can be used, where there are any.

        Returns:
            Plain values: ``findings``, by themselves; ``measures`` of each structure with a model, ``evidence`` against
            its label and ``dice`` of label and prediction; and ``files`` written.
        """
        label = read_case_label(item, self.spec)
        checks = [_placed(finding, label) for finding in check_case(case, facts, self.cohort)]
        folder = self.folder if with_model else None
        found = [] if folder is None else list(self._judged(item, label, folder))
        kept = [(judged.problem, [region for _, region in judged.scored]) for judged in found]
        files: list[Path] = []
        if any(regions for _, regions in kept):
            files += write_error_maps(case, label, kept, self.out / "errors")
            proposals = self.out / "proposals"
            if self.form == "dicom_seg":
                files.append(write_proposed_seg(item, label, kept, self.spec, proposals))
            else:
                files += write_proposal(item, label, kept, self.spec, proposals)
        regions = [
            (self._finding(case, judged.problem, score, region, label), region)
            for judged in found
            for score, region in judged.scored[:MOST_REGIONS]
        ]
        pairs: list[tuple[Finding, Region | None]] = [*regions, *((finding, None) for finding in checks)]
        findings = self._pictured(case, item, label, pairs, proposed_masks(label.masks, kept))
        return {
            "findings": [finding.as_dict() for finding in most_suspicious_first(findings)],
            "measures": {name: values for judged in found for name, values in judged.measures.items()},
            "files": [str(path.relative_to(self.out)) for path in files],
        }

    def _judged(self, item: Mapping[str, Any], label: CaseLabel, folder: ProbabilityFolder) -> Iterator[_Judged]:
        """What is found in every problem, the most suspicious regions first."""
        probabilities = folder.read(item, label)
        voxel = float(np.prod(label.spacing))
        for problem, limits in zip(self.problems, self.limits, strict=True):
            given, p = problem_arrays(problem, label.masks, probabilities)
            flagged = label_errors(torch.from_numpy(p), torch.from_numpy(given), limits).numpy()
            regions = error_regions(given, p, flagged, label.spacing, self.tolerance)
            seems, sizes, measures = p.argmax(0), [0.0], {}
            for number, k in enumerate(problem.classes[1:], start=1):
                median = self.cohort.median_volume[k - 1] / voxel
                one, other = given == number, seems == number
                both, own, seen = (int(np.count_nonzero(mask)) for mask in (one & other, one, other))
                sizes.append(structure_size(own, seen, median))
                evidence = evidence_against(given, p, number, label.spacing, self.tolerance)
                measures[self.spec.classes[k - 1]] = {
                    "evidence": evidence / median if median else float(evidence > 0),
                    "dice": dice_with_floor(both, own, seen, median),
                }
            scored = sorted(((region_score(region, sizes), region) for region in regions), key=lambda pair: -pair[0])
            yield _Judged(problem, [pair for pair in scored if pair[0] >= NEGLIGIBLE], measures)

    def _finding(self, case: str, problem: Problem, score: float, region: Region, label: CaseLabel) -> Finding:
        names = ["background", *self.spec.classes]
        given, seems = (names[problem.classes[number]] for number in (region.given, region.seems))
        structure = seems if region.given == 0 else given
        total = int(label.masks[self.spec.classes.index(structure)].sum())
        share = region.voxels / max(total + (region.voxels if region.given == 0 else 0), 1)
        unit = "px" if label.axes is None else "mm"
        middle = nearest_middle(region.mask, [part.start for part in region.window])
        depth = np.bincount(np.nonzero(region.mask)[-1]).argmax() + region.window[-1].start
        return _placed(
            Finding(
                case,
                structure,
                region.type,
                score,
                region.confidence,
                _in_words(region, given, seems, share, unit),
                "model",
                voxels=region.voxels,
                size=region.voxels * float(np.prod(label.spacing)),
                share=share,
                thickness=region.thickness,
                shift=None if region.shift is None else region.shift * (-1 if region.given == 0 else 1),
                place=",".join(map(str, middle)),
                slice=int(depth) if label.masks.ndim == 4 else None,
            ),
            label,
        )

    def _pictured(
        self,
        case: str,
        item: Mapping[str, Any],
        label: CaseLabel,
        pairs: Sequence[tuple[Finding, Region | None]],
        proposed: np.ndarray,
    ) -> list[Finding]:
        """Findings with pictures of the most suspicious ones that have a place."""
        order = sorted(range(len(pairs)), key=lambda n: -pairs[n][0].suspicion)
        shown = [n for n in order if pairs[n][0].structure][:OVERLAYS]
        findings = [finding for finding, _ in pairs]
        if not shown:
            return findings
        image = read_case_image(item, label, self.spec)
        window = self.spec.manifest.preprocessing.window or np.percentile(image, (1, 99)).tolist()
        for rank, n in enumerate(shown, start=1):
            path = self.out / "overlays" / f"{file_name_of(case)}_{rank}.webp"
            self._draw(image, label, proposed, pairs[n], (float(window[0]), float(window[1])), path)
            findings[n] = replace(findings[n], overlay=str(path.relative_to(self.out)))
        return findings

    def _draw(
        self,
        image: np.ndarray,
        label: CaseLabel,
        proposed: np.ndarray,
        pair: tuple[Finding, Region | None],
        window: tuple[float, float],
        path: Path,
    ) -> None:
        finding, region = pair
        k = self.spec.classes.index(finding.structure)
        wrong: np.ndarray = np.zeros(label.masks.shape[1:], bool)
        if region is not None:
            wrong[region.window] = region.mask
        arrays = [label.masks[k], proposed[k], wrong]
        if wrong.ndim == 3:
            depth = finding.slice
            if depth is None:
                depth = int(np.argmax(arrays[0].sum((0, 1)))) if arrays[0].any() else wrong.shape[2] // 2
            image, arrays = image[..., depth], [array[..., depth] for array in arrays]
            if (label.axes or "")[:2] == "RA":  # radiological view: patient's right on the left, front on top
                image, arrays = image[:, ::-1, ::-1], [array[::-1, ::-1] for array in arrays]
        draw_overlay(image, arrays[0], arrays[1], arrays[2], label.spacing[:2], window, path)


def _placed(finding: Finding, label: CaseLabel) -> Finding:
    """A finding whose place is turned from the axes of the masks to those of the file."""
    if not finding.place:
        return finding
    index = [int(n) for n in finding.place.split(",")]
    depth = finding.slice if finding.slice is not None or len(index) < 3 else index[2]
    if label.axes is None:
        return replace(finding, slice=depth)
    world = label.affine @ [*index, 1]
    voxel = np.linalg.solve(label.sources[0].affine, world)[:3].round().astype(int)
    return replace(
        finding,
        place=",".join(map(str, voxel)),
        world=",".join(f"{mm:.1f}" for mm in world[:3]),
        slice=depth,
    )


def _in_words(region: Region, given: str, seems: str, share: float, unit: str) -> str:
    size = f"{region.voxels} {'pixels' if unit == 'px' else 'voxels'}, {share:.0%} of it"
    thick = f"{region.thickness:.3g} {unit} thick"
    if region.shift is not None:
        way = "inside" if region.given == 0 else "outside"
        structure = seems if region.given == 0 else given
        return f"boundary of {structure} drawn {region.shift:.2g} {unit} too far {way} ({size})"
    if region.given == 0:
        return f"{seems} is not labelled here ({size}, {thick})"
    if region.seems == 0:
        return f"{given} is labelled where there seems to be none ({size}, {thick})"
    return f"labelled {given}, seems to be {seems} ({size}, {thick})"
