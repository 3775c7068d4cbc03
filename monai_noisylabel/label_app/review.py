"""A review: which case comes next, and what becomes of a label that a person hands in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.data.case_label import CaseLabel
from monai_noisylabel.data.originals import fingerprint, lies_in
from monai_noisylabel.label_app.journal import Entry, Journal
from monai_noisylabel.label_app.scores import CaseScore, read_scores
from monai_noisylabel.label_app.shown_label import read_shown_label
from monai_noisylabel.label_app.workspace import CLEANSED, Workspace
from monai_noisylabel.simulate.trainable import copy_file

__all__ = ["ACCEPTED", "DECIDED", "EDITED", "KEPT", "PROPOSED", "SKIPPED", "WITHDRAWN", "Progress", "Review"]

ACCEPTED, KEPT, EDITED = "accepted proposal", "kept original", "edited"
DECIDED = (ACCEPTED, KEPT, EDITED)
"""What ends the review of a case. The name follows from the label that is handed in."""

SKIPPED, WITHDRAWN, PROPOSED = "skipped", "withdrawn", "proposed"


@dataclass(frozen=True)
class Progress:
    """How far a review is.

    Args:
        cases: number of cases.
        decided: number of cases that are decided.
        left_with_findings: cases that the audit found something in and nobody has decided.
        decisions: how often each decision was taken.
    """

    cases: int
    decided: int
    left_with_findings: int
    decisions: dict[str, int]


class Review:
    """The cases of a workspace, walked from the most suspicious label to the least.

    All of its state is on disk, so that a restarted server goes on where the last one stopped.

    Args:
        workspace: the folder.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.journal = Journal(workspace.root / "review" / "journal.jsonl")

    @cached_property
    def findings(self) -> dict[str, list[dict[str, Any]]]:
        """What the audit found in each case."""
        path = self.workspace.root / "review" / "findings.json"
        found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def states(self) -> dict[str, Entry]:
        """The last entry of each case that was decided, skipped or withdrawn."""
        return {entry.case: entry for entry in self.journal.entries() if entry.decision != PROPOSED}

    def decisions(self) -> dict[str, Entry]:
        """What was decided last, of each case where that still holds."""
        return {case: entry for case, entry in self.states().items() if entry.decision in DECIDED}

    def open_cases(self, key: Callable[[CaseScore], float | None] | None = None) -> list[str]:
        """Cases that are not decided, the worst label first; what was skipped comes last.

        Args:
            key: another score to sort by than that of the label, the highest first; cases without it come behind.
        """
        states, scores = self.states(), read_scores(self.workspace.root)
        score = key or (lambda entry: entry.label_quality)

        def rank(case: str) -> tuple[bool, float]:
            value = score(scores.get(case, CaseScore()))
            skipped = case in states and states[case].decision == SKIPPED
            return skipped, 1.0 if value is None else -value

        cases = [c for c in self.workspace.items if c not in states or states[c].decision not in DECIDED]
        return sorted(cases, key=rank)  # keeps the order of the audit among equals

    def sample(self, case: str) -> dict[str, Any]:
        """What a reviewer is told about a case."""
        score = read_scores(self.workspace.root).get(case, CaseScore())
        progress = self.progress()
        return {
            "id": case,
            **score.for_viewer(),
            "findings": self.findings.get(case, []),
            "has_proposal": self.workspace.label(case, CLEANSED).is_file(),
            "decided": progress.decided,
            "cases": progress.cases,
            "left_with_findings": progress.left_with_findings,
        }

    def progress(self) -> Progress:
        """How far the review is."""
        decisions = self.decisions()
        left = [case for case in self.workspace.items if self.findings.get(case) and case not in decisions]
        counts = Counter(entry.decision for entry in decisions.values())
        return Progress(len(self.workspace.items), len(decisions), len(left), dict(counts))

    def submit(self, case: str, file: Path, label_info: Any, user: str, note: str = "") -> Entry:
        """Decide a case by the label that a person hands in.

        It is written in the form of the given label first, and into the journal then: what is in the journal is
        there. Equal to the proposal it is accepted, equal to the given label it is kept, else it is edited.

        Args:
            case: the case.
            file: the label, as :func:`~monai_noisylabel.label_app.shown_label.read_shown_label` reads it.
            label_info: what came with it.
            user: who hands it in.
            note: what they wrote with it.

        Raises:
            ValueError: if the label does not fit the case.
        """
        label = self.workspace.given(self._known(case))
        masks = read_shown_label(file, label_info, label, self.workspace.code)
        decision = self._decision(case, label, masks)
        files = list(dict.fromkeys(self.workspace.reviewed_files(case).values()))
        contents = [source.values for source in label.sources] if decision == KEPT else label.contents_with(masks)
        for target, source, values in zip(files, label.sources, contents, strict=True):
            if lies_in(target, self.workspace.spec.dataset_dir):
                raise ValueError(f"{target} leads into the dataset folder, where nothing is written.")
            if decision == KEPT and target.suffix == source.path.suffix:
                copy_file(source.path, target)
            else:
                source.write(values, target)
        return self.journal.append(user, case, decision, self._checksums(files), note)

    def propose(self, case: str, file: Path, label_info: Any, user: str, note: str = "") -> None:
        """Check a proposed label and write down who made it.

        Raises:
            ValueError: if the label does not fit the case.
        """
        label = self.workspace.given(self._known(case))
        read_shown_label(file, label_info, label, self.workspace.code)
        self.journal.append(user, case, PROPOSED, {}, note)

    def skip(self, case: str, user: str, note: str = "") -> None:
        """Put an undecided case behind all others."""
        if self._known(case) not in self.decisions():
            self.journal.append(user, case, SKIPPED, {}, note)

    def withdraw(self, case: str, user: str, note: str = "") -> None:
        """Take back what was decided; the case is open again."""
        if self._known(case) in self.decisions():
            self.journal.append(user, case, WITHDRAWN, {}, note)

    def verified_files(self, entry: Entry) -> list[Path]:
        """Files of a decision, which must still have the content that it was taken on.

        Raises:
            ValueError: if one is missing or has changed.
        """
        paths = [self.workspace.reviewed / name for name in entry.files]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing or self._checksums(paths) != entry.files:
            raise ValueError(
                f"{', '.join(missing) or paths[0]} is not what {entry.user} handed in on {entry.time}; withdraw the "
                "decision and review the case again."
            )
        return paths

    def _decision(self, case: str, label: CaseLabel, masks: np.ndarray) -> str:
        if np.array_equal(masks, label.masks):
            return KEPT
        proposal = self.workspace.label(case, CLEANSED)
        if proposal.is_file():
            proposed = read_shown_label(proposal, None, label, self.workspace.code)
            if np.array_equal(masks, proposed):
                return ACCEPTED
        return EDITED

    def _checksums(self, files: Iterable[Path]) -> dict[str, str]:
        root = self.workspace.reviewed
        return {str(Path(path).relative_to(root)): digest for path, digest in fingerprint(files).items()}

    def _known(self, case: str) -> str:
        if case not in self.workspace.items:
            raise ValueError(f"{case!r} is no case of this review.")
        return case
