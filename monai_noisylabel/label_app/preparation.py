"""Making the folder of a review out of a dataset and, if there is one, its audit."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.data.case_label import paths_of, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset, volume_of
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.originals import fingerprint, lies_in
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.label_app.audited import Audited, read_audit
from monai_noisylabel.label_app.label_code import LabelCode
from monai_noisylabel.label_app.scores import CaseScore, write_scores
from monai_noisylabel.label_app.shown_label import shown_suffix, write_shown_image, write_shown_label
from monai_noisylabel.label_app.workspace import CLEANSED, ORIGINAL, RECORD, Workspace, open_workspace

__all__ = ["prepare_workspace"]

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]
Progress = Callable[[str, int, int], None]


def prepare_workspace(
    manifest: Manifest | str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str] | None,
    studies: str | os.PathLike[str],
    *,
    audit: str | os.PathLike[str] | None = None,
    split: str = "train",
    spatial_dims: int | None = None,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Workspace:
    """Make the folder of a review: copies of the images, the given labels, and those that an audit proposes.

    Images are copied, not linked: MONAI Label follows links when it replaces and removes what lies in its studies.
    What is there already is not written again, so an interrupted preparation goes on. A case that cannot be shown is
    left out and named in ``workspace.json``.

    Args:
        manifest: a manifest, the path of one, or the name of a shipped one.
        dataset_dir: folder of the dataset, which is only read; None generates the phantom.
        studies: folder of the review.
        audit: folder of an audit of this dataset. Its cases are reviewed, the most suspicious first.
        split: without an audit: ``"train"``, the cases that labels are learned from, or ``"all"``.
        spatial_dims: 2 or 3 instead of the manifest's.
        classes: subset of the class names.
        progress: called with what is going on, and how much of it is done of how much.

    Raises:
        ValueError: if the folder lies in the dataset or the other way round, or the audit is of another dataset.
        FileExistsError: if the folder holds something else, or the review of something else.
        FileNotFoundError: if the dataset or the audit does not exist.
    """
    progress = progress or (lambda what, done, total: None)
    spec = load_dataset(manifest, dataset_dir, spatial_dims=spatial_dims, classes=classes, complete=False)
    audited = None if audit is None else read_audit(Path(audit), spec)
    split = split if audited is None else audited.split
    root = Path(studies)
    items = _ordered({volume_of(item): item for item in spec.items_of(split)}, audited)
    identity = {
        **spec.identity(),
        "dataset_dir": str(spec.dataset_dir.resolve()),
        "split": split,
        "audit": None if audited is None else str(audited.folder.resolve()),
    }
    record = _claim(root, spec, identity)
    if record.get("ready"):
        return open_workspace(root)
    code = LabelCode.of(spec.classes, _overlapping(spec, items, audited))
    names = {case: f"{case}{shown_suffix(paths_of(item['image'])[0])}" for case, item in items.items()}
    record = {**identity, "combinations": [list(entry) for entry in code.combinations], "images": names}
    workspace = Workspace(root, spec, items, code, record)
    _finish(workspace, audited, _copy(workspace, audited, progress))
    return open_workspace(root)


def _copy(workspace: Workspace, audited: Audited | None, progress: Progress) -> dict[str, str]:
    """Write what the viewer needs of every case; what went wrong."""
    failed = {}
    for number, case in enumerate(workspace.items, start=1):
        try:
            _write_case(workspace, case, audited)
        except Exception as error:  # whatever is wrong with one case, the others must not be lost
            logger.error(f"Case {case!r} cannot be reviewed: {error}")
            failed[case] = f"{type(error).__name__}: {error}"
            workspace.image(case).unlink(missing_ok=True)
        progress("Copying images and labels", number, len(workspace.items))
    return failed


def _finish(workspace: Workspace, audited: Audited | None, failed: Mapping[str, str]) -> None:
    """Write down what is known of the cases, and then that the folder is ready."""
    root = workspace.root
    shown = {case: name for case, name in workspace.record["images"].items() if case not in failed}
    if not shown:
        reason = next(iter(failed.values()), "the dataset has none")
        raise ValueError(f"None of the {len(failed)} cases can be reviewed. The first one: {reason}")
    labels = {case: paths_of(workspace.items[case]["label"]) for case in shown}
    given = {case: fingerprint(sorted(set(paths))) for case, paths in labels.items()}
    findings = {} if audited is None else {case: audited.findings.get(case, []) for case in shown}
    write_scores(_scores(shown, audited), root)
    write_atomically(json.dumps(findings, indent=2) + "\n", root / "review" / "findings.json")
    record = {**workspace.record, "images": shown, "given": given, "left_out": dict(failed), "ready": True}
    write_atomically(json.dumps(record, indent=2) + "\n", root / RECORD)


def _claim(root: Path, spec: DatasetSpec, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Make a folder that of one review, or find that it is; the record it holds."""
    if lies_in(root, spec.dataset_dir) or lies_in(spec.dataset_dir, root):
        raise ValueError(
            f"The studies folder {root} and the dataset {spec.dataset_dir}, which must stay untouched, lie in each "
            "other; give --studies another folder."
        )
    path = root / RECORD
    if root.exists() and any(root.iterdir()):
        if not path.is_file():
            raise FileExistsError(f"{root} holds something else than a review; give --studies another folder.")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key, wanted in identity.items():
            if found.get(key) != wanted:
                raise FileExistsError(
                    f"{root} holds a review whose {key} is {found.get(key)!r}, not {wanted!r}; give --studies another "
                    "folder, or leave out the manifest to go on with that review."
                )
        if found.get("ready"):
            return found
    write_atomically(json.dumps(dict(identity), indent=2) + "\n", path)
    write_atomically(spec.manifest.model_dump_json(exclude_defaults=True, indent=2) + "\n", root / "manifest.json")
    return dict(identity)


def _ordered(items: dict[str, Item], audited: Audited | None) -> dict[str, Item]:
    """Cases in the order of the audit; those that it does not name come last."""
    if audited is None:
        return items
    order = [case for case in audited.scores if case in items]
    return {case: items[case] for case in [*order, *(case for case in items if case not in audited.scores)]}


def _overlapping(spec: DatasetSpec, items: Mapping[str, Item], audited: Audited | None) -> Iterator[np.ndarray]:
    """Masks of all given and proposed labels, where structures may overlap."""
    if not spec.multi_label:
        return
    for item in items.values():
        try:
            label = read_case_label(item, spec)
        except (ValueError, OSError):
            continue  # it is left out, with the reason, when it is to be shown
        yield label.masks
        proposed = None if audited is None else audited.proposed_masks(item, label, spec)
        if proposed is not None:
            yield proposed


def _write_case(workspace: Workspace, case: str, audited: Audited | None) -> None:
    """Write what the viewer needs of a case and is not there yet."""
    item, spec = workspace.items[case], workspace.spec
    image, original, cleansed = (
        workspace.image(case),
        workspace.label(case, ORIGINAL),
        workspace.label(case, CLEANSED),
    )
    proposed = [] if audited is None else audited.proposal_files(item, spec)
    if image.exists() and original.exists() and (not proposed or cleansed.exists()):
        return
    label = workspace.given(case)
    write_shown_image(paths_of(item["image"])[0], image, spec.manifest.dicom.series)
    write_shown_label(label, label.masks, workspace.code, image, original)
    masks = None if audited is None else audited.proposed_masks(item, label, spec)
    if masks is not None:
        write_shown_label(label, masks, workspace.code, image, cleansed)


def _scores(cases: Mapping[str, str], audited: Audited | None) -> dict[str, CaseScore]:
    if audited is None:
        return {}
    scores = {}
    for case in cases:
        own = audited.scores.get(case, {})
        if own:
            structures = {name: value for name, value in own.items() if name}
            scores[case] = CaseScore(own[""], structures, source="audit")
    return scores
