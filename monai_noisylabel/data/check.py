"""Dataset check: every file is read before anything is trained on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from monai_noisylabel.data.cases import CaseFiles, find_cases
from monai_noisylabel.data.check_rules import case_problems
from monai_noisylabel.data.dicom_seg import is_dicom_seg
from monai_noisylabel.data.dicom_slices import DicomError
from monai_noisylabel.data.facts_cache import FactsCache
from monai_noisylabel.data.file_facts import FileFacts, image_facts, label_facts, seg_facts
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.problem import INCOMPLETE, Problem
from monai_noisylabel.data.seg_label import dicom_rules
from monai_noisylabel.data.splits import SPLITS, SplitName, assign_splits

__all__ = ["Report", "check_dataset", "read_facts"]

Progress = Callable[[int, int], None]
MAX_THREADS = 4  # each holds one whole volume


@dataclass(frozen=True)
class Report:
    """Result of a dataset check.

    Args:
        manifest: manifest of the dataset.
        dataset_dir: its folder.
        problems: everything found, the fatal problems of a case first.
        splits: usable cases per split.
        unassigned: usable cases that belong to no split.
        facts: facts of every file that was read, by path relative to the folder.
    """

    manifest: Manifest
    dataset_dir: Path
    problems: tuple[Problem, ...]
    splits: dict[SplitName, list[CaseFiles]]
    unassigned: int
    facts: dict[str, FileFacts]

    @property
    def left_out(self) -> list[Problem]:
        """Problems because of which a case is not used."""
        return [problem for problem in self.problems if problem.fatal]

    @property
    def reasons(self) -> list[str]:
        """Why training would be unsafe; empty when it is not.

        A case that merely lacks its image or label is left out and harms nothing. Damaged or contradictory
        files and leaks between splits are left out of training as well, but point to a fault in the dataset.
        """
        faulty = sorted({problem.case for problem in self.left_out if problem.kind not in INCOMPLETE})
        reasons = [f"split {split} holds no usable case" for split in SPLITS if not self.splits[split]]
        if faulty:
            shown = ", ".join(faulty[:3]) + (", ..." if len(faulty) > 3 else "")
            reasons.append(f"{len(faulty)} {'cases are' if len(faulty) > 1 else 'case is'} faulty ({shown})")
        return reasons

    @property
    def safe(self) -> bool:
        """Whether the dataset can be trained on as it is."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """Verdict in one sentence."""
        counts = ", ".join(f"{len(self.splits[split])} {split}" for split in SPLITS)
        if not self.safe:
            return f"NOT SAFE to train on: {'; '.join(self.reasons)}. Usable: {counts}."
        out = len({problem.case for problem in self.left_out})
        rest = f"; {out} incomplete {'case is' if out == 1 else 'cases are'} left out" if out else ""
        return f"Safe to train on: {counts}{rest}."


def check_dataset(
    manifest: Manifest,
    dataset_dir: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    spatial_dims: int | None = None,
    cached: bool = False,
    only_used: bool = False,
) -> Report:
    """Read every file of a dataset in full and judge every case.

    The split of a case is decided before any file is read, so that a damaged file never moves another case
    from one split to another. One bad file never stops the check.

    Args:
        manifest: manifest of the dataset.
        dataset_dir: folder of the dataset.
        progress: called with the number of files done and their total.
        spatial_dims: dimensions of the run; the manifest's by default.
        cached: do not read files again that have not changed since a former check.
        only_used: read the cases of the three splits only.

    Raises:
        FileNotFoundError: if the folder, or any image in it, is missing.
    """
    root = Path(os.path.abspath(dataset_dir))
    cases, problems = find_cases(manifest, root)
    splits, found = assign_splits([case.for_split for case in cases], manifest.splits)
    problems += found
    used = {index for indices in splits.values() for index in indices}
    read = [case for index, case in enumerate(cases) if index in used or not only_used]
    facts = read_facts(read, manifest, root, progress, cached=cached)
    judged = {case.images[0]: case_problems(case, facts, manifest, spatial_dims) for case in read}
    problems += [problem for found in judged.values() for problem in found]
    bad = {image for image, found in judged.items() if any(problem.fatal for problem in found)}
    usable = {split: [cases[i] for i in splits[split] if cases[i].images[0] not in bad] for split in SPLITS}
    return Report(manifest, root, tuple(problems), usable, len(cases) - len(used), facts)


def read_facts(
    cases: Sequence[CaseFiles],
    manifest: Manifest,
    root: Path,
    progress: Progress | None = None,
    *,
    cached: bool = True,
) -> dict[str, FileFacts]:
    """Facts of every file of the cases, read by a few threads and remembered for the next run."""
    cache = FactsCache(root)
    orientation, coloured, rules = manifest.preprocessing.orientation, manifest.coloured, dicom_rules(manifest)
    series_of = {file: case.images[0] for case in cases for file in case.labels if is_dicom_seg(root / file)}
    roles: dict[str, str] = {}
    for case in cases:
        roles |= dict.fromkeys(case.images, "image" if rules.series is None else f"image {rules.series}")
        roles |= dict.fromkeys(case.labels, f"label {orientation} {coloured}")
    for file, series in series_of.items():
        roles[file] = f"segmentation {orientation} {rules} {series} {cache.state(series)}"
    known = {file: cache.get(file, role) for file, role in roles.items()} if cached else {}
    facts = {file: found for file, found in known.items() if found is not None}

    def read(file: str) -> tuple[str, list[int], FileFacts]:
        state = cache.state(file)
        try:
            if file in series_of:
                return file, state, seg_facts(root / file, root / series_of[file], orientation, rules)
            if roles[file].startswith("image"):
                return file, state, image_facts(root / file, rules.series)
            return file, state, label_facts(root / file, orientation, coloured)
        except DicomError as error:  # says itself what to do
            return file, state, FileFacts(error=str(error))
        except Exception as error:  # whatever a reader does with a damaged file
            text = " ".join(str(error).split())[:200]
            return file, state, FileFacts(error=f"{type(error).__name__}: {text}; restore it from its source")

    todo = [file for file in roles if file not in facts]
    pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
    try:
        for done, future in enumerate(as_completed([pool.submit(read, file) for file in todo]), 1):
            file, state, found = future.result()
            facts[file] = found
            cache.put(file, roles[file], found, state)
            if progress is not None:
                progress(done, len(todo))
    finally:  # an interrupted check keeps what it has read
        pool.shutdown(cancel_futures=True)
        cache.save()
    return facts
