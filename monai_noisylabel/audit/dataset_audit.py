"""The audit of a whole dataset: which labels are wrong, where, how, and which to look at first."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from monai_noisylabel.audit.case_audit import CaseAuditor
from monai_noisylabel.audit.checks import of_problem
from monai_noisylabel.audit.cohort import Cohort
from monai_noisylabel.audit.findings import Finding, most_suspicious_first, write_findings
from monai_noisylabel.audit.folds import BundleFolds, predict_by_folds
from monai_noisylabel.audit.page import CaseRow, write_cases, write_page
from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.audit.problems import CaseStream, problems_of
from monai_noisylabel.audit.ranking import ranked
from monai_noisylabel.audit.records import Records, digest, file_state, open_folder
from monai_noisylabel.audit.shape_facts import label_facts
from monai_noisylabel.data.case_label import paths_of, read_case_label
from monai_noisylabel.data.corrected_seg import check_format
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset, volume_of
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.originals import fingerprint, verify_originals
from monai_noisylabel.selection import ConfidentLimits, PruningRule, confident_limits

__all__ = ["AuditReport", "audit_dataset"]

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]
Progress = Callable[[str, int, int], None]
NO_PREDICTION = "no usable probabilities"


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        findings: the most suspicious first.
        cases: the cases, the most suspicious first.
        failed: cases that could not be judged, with the reason; they are among the findings.
        page: the report to open in a browser.
    """

    findings: list[Finding]
    cases: list[CaseRow]
    failed: dict[str, str]
    page: Path


def audit_dataset(
    manifest: Manifest | str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str] | None,
    out_dir: str | os.PathLike[str],
    *,
    probabilities: str | os.PathLike[str] | None = None,
    folds: BundleFolds | None = None,
    split: str = "train",
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
    rule: PruningRule = "prune_by_noise_rate",
    tolerance: float | None = None,
    form: str = "nifti",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AuditReport:
    """Find wrong labels in a dataset, and say where they are and what kind of error they seem to be.

    Without probabilities and bundle only the checks are made that need no model. With them, confident learning
    (:func:`~monai_noisylabel.selection.confident_limits`) decides which voxels are wrong, over all cases together;
    their connected regions that are more than an uncertain boundary become findings.

    The folder gets ``audit.csv``, a row per finding; ``cases.csv``, a row per case; ``audit.html``, the same with
    pictures in one file; ``errors``, a map of the errors of each case, and ``proposals``, labels in which they are
    mended, both on the grid of the given labels. Proposals are for a person to look at, not to be used unseen.

    It finds what contradicts the other cases. An error that most labels share is right to it, and what only one case
    has, such as a rare disease, is suspicious. Where a network is poor, its findings are.

    An audit that was interrupted goes on where it was; a case whose label or probabilities have changed is judged
    again. A case that cannot be read becomes a finding. Memory holds one case at a time.

    Args:
        manifest: a manifest, the path of one, or the name of a shipped one.
        dataset_dir: folder of the dataset, which is only read; None generates the phantom.
        out_dir: folder of the audit; not in the dataset's folder.
        probabilities: folder with probabilities of models that did not train on the case they predict, see
            :class:`~monai_noisylabel.audit.probabilities.ProbabilityFolder`.
        folds: instead, a bundle to make such probabilities with.
        split: ``"train"``, the cases that labels are learned from, or ``"all"``.
        spatial_dims: 2 or 3 instead of the manifest's.
        classes: subset of the class names.
        rule: how confident learning chooses voxels.
        tolerance: distance in mm (pixels of pictures) between two boundaries that is no error; None: one voxel.
        form: format of the proposed labels: ``"nifti"``, which is PNG for pictures, or ``"dicom_seg"`` where images
            are DICOM series.
        overwrite: replace another audit in the folder.
        progress: called with what is going on, and how much of it is done of how much (0 where that is not known).

    Raises:
        FileExistsError: if the folder holds anything but a part of this audit and may not be overwritten.
        ValueError: if arguments do not fit, or no case has usable probabilities.
        FileNotFoundError: if the dataset or the probabilities do not exist.
        ModuleNotFoundError: if DICOM SEG is to be written and highdicom is not installed.
        RuntimeError: if a training of a fold fails.
        OriginalChangedError: if a label file of the dataset is not what it was in the beginning.
    """
    progress = progress or (lambda what, done, total: None)
    if probabilities is not None and folds is not None:
        raise ValueError("Give a folder of probabilities or a bundle that makes them, not both.")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}.")
    check_format(form)
    spec = load_dataset(manifest, dataset_dir, spatial_dims=spatial_dims, classes=classes, complete=False)
    items = _volumes(spec, split)
    out = Path(out_dir)
    read_only = [spec.dataset_dir, *([] if probabilities is None else [Path(probabilities)])]
    settings = {"rule": rule, "tolerance": tolerance} | ({} if form == "nifti" else {"format": form})
    folder = None if probabilities is None else ProbabilityFolder(probabilities, spec)
    open_folder(out, _identity(spec, split, probabilities, folds, settings), overwrite, read_only)
    checksums = {case: fingerprint(sorted(set(paths_of(item["label"])))) for case, item in items.items()}
    if folds is not None:
        made = predict_by_folds(spec, list(items.values()), folds, out, lambda line: progress(line, 0, 0))
        folder = ProbabilityFolder(made, spec)
    run = _Run(spec, items, out, checksums, progress)
    facts = run.facts()
    cohort = Cohort(facts, spec.classes)
    limits = [] if folder is None else run.limits(folder, rule)
    auditor = CaseAuditor(spec, cohort, out, problems_of(spec), limits, folder, tolerance, form)
    results = run.results(auditor, facts)
    verify_originals({path: known for entry in checksums.values() for path, known in entry.items()})
    return _report(run, results, folder is not None)


class _Run:
    """The passes of one audit over its cases."""

    def __init__(
        self,
        spec: DatasetSpec,
        items: Mapping[str, Item],
        out: Path,
        checksums: Mapping[str, Mapping[str, str]],
        progress: Progress,
    ) -> None:
        self.spec = spec
        self.items = items
        self.out = out
        self.checksums = checksums
        self.progress = progress
        self.failed: dict[str, str] = {}
        self.records = Records(out / "records")

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """Facts of the structures of every case that can be read."""
        facts = {}
        for number, (case, item) in enumerate(self.items.items(), start=1):
            key = digest(self.checksums[case], self.spec.classes)
            found = self.records.read(f"facts/{case}", key)
            if found is None:
                try:
                    found = label_facts(read_case_label(item, self.spec))
                    self.records.write(f"facts/{case}", key, found)
                except Exception as error:  # whatever is wrong with one case, the others must not be lost
                    self._fail(case, error)
            if found is not None:
                facts[case] = found
            self.progress("Measuring labels", number, len(self.items))
        return facts

    def limits(self, folder: ProbabilityFolder, rule: PruningRule) -> list[ConfidentLimits]:
        """What confident learning has to know of all cases, for each problem; kept until a case changes."""
        key = digest(rule, {case: self._state(case, folder) for case in self.items})
        found = self.records.read("limits", key)
        if found is None:
            self.progress("Counting with confident learning", 0, 0)
            stream = CaseStream({c: item for c, item in self.items.items() if c not in self.failed}, self.spec, folder)
            made = []
            for problem in problems_of(self.spec):
                try:
                    made.append(confident_limits(stream.of(problem), rule))
                except ValueError as error:
                    reason = next(iter(stream.failed.values()), str(error))
                    raise ValueError(f"No case has usable probabilities. The first one: {reason}") from None
            found = {"limits": [_plain(limits) for limits in made], "failed": stream.failed}
            self.records.write("limits", key, found)
        self.failed |= {case: f"{NO_PREDICTION}: {reason}" for case, reason in found["failed"].items()}
        return [_limits(values) for values in found["limits"]]

    def results(self, auditor: CaseAuditor, facts: Mapping[str, Sequence[Item]]) -> dict[str, dict[str, Any]]:
        """What was found in every case that can be judged."""
        context = digest(
            auditor.cohort.as_dict(), sorted(facts), [_plain(limits) for limits in auditor.limits], auditor.tolerance
        )
        results = {}
        for number, (case, own) in enumerate(facts.items(), start=1):
            without = case in self.failed or auditor.folder is None
            key = digest(context, self.checksums[case], None if without else self._state(case, auditor.folder))
            found = self.records.read(f"results/{case}", key)
            if found is None:
                try:
                    found = auditor.audit(case, self.items[case], own, with_model=not without)
                    self.records.write(f"results/{case}", key, found)
                except Exception as error:  # as above
                    self._fail(case, error)
            if found is not None:
                results[case] = found
            self.progress("Judging cases", number, len(facts))
        return results

    def _state(self, case: str, folder: ProbabilityFolder | None) -> Any:
        """By which a change of a case's label or probabilities is noticed."""
        try:
            state = None if folder is None else file_state(folder.path_of(self.items[case]))
        except OSError as error:
            state = [str(error)]
        return [self.checksums[case], state]

    def _fail(self, case: str, error: Exception) -> None:
        logger.error(f"Case {case!r} was not judged: {error}")
        self.failed[case] = f"{type(error).__name__}: {error}"


def _report(run: _Run, results: Mapping[str, Mapping[str, Any]], with_model: bool) -> AuditReport:
    """Write the lists and the page."""
    spec = run.spec
    findings, scores = ranked(results, spec.classes)
    findings += [of_problem(problem) for problem in spec.left_out]
    findings += [of_problem(note) for note in spec.notes if note.kind != "empty label" and note.case in run.items]
    findings += [Finding(case, "", "not judged", 1.0, 1.0, text, "check") for case, text in run.failed.items()]
    findings = most_suspicious_first(findings)
    whole = {finding.case: finding.suspicion for finding in reversed(findings) if not finding.structure}
    rows = []
    by_case: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_case[finding.case].append(finding)
    for case in dict.fromkeys([*run.items, *whole]):
        own = by_case[case]
        parts = dict(scores.get(case, {}))
        score = max(parts.pop("", 0.0), whole.get(case, 0.0))
        patient = str(run.items[case]["patient"]) if case in run.items else ""
        rows.append(CaseRow(case, patient, score, len(own), sum(f.suspicion for f in own), parts))
    rows.sort(key=lambda row: (-row.score, row.case))
    write_findings(findings, run.out / "audit.csv")
    write_cases(rows, spec.classes, run.out / "cases.csv")
    run.progress("Writing the report", 0, 0)
    page = write_page(spec, findings, rows, run.out, with_model)
    return AuditReport(findings, rows, run.failed, page)


def _volumes(spec: DatasetSpec, split: str) -> dict[str, Item]:
    """Items by the volume or picture they are of."""
    return {volume_of(item): item for item in spec.items_of(split)}


def _identity(
    spec: DatasetSpec,
    split: str,
    probabilities: str | os.PathLike[str] | None,
    folds: BundleFolds | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What makes two audits the same."""
    return {
        **spec.identity(),
        "split": split,
        "probabilities": None if probabilities is None else str(Path(probabilities).resolve()),
        "folds": None if folds is None else folds.as_dict(),
        **settings,
    }


def _plain(limits: ConfidentLimits) -> dict[str, Any]:
    return {
        "rule": limits.rule,
        "thresholds": limits.thresholds.tolist(),
        "joint": limits.joint.tolist(),
        "scores": limits.scores.tolist(),
    }


def _limits(values: Mapping[str, Any]) -> ConfidentLimits:
    thresholds = torch.tensor(values["thresholds"], dtype=torch.float64)
    scores = torch.tensor(values["scores"], dtype=torch.float32)
    return ConfidentLimits(values["rule"], thresholds, torch.tensor(values["joint"]), scores)
