"""Rounds of label proposals on disk: what training learns from when labels change, and who changed what."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from monai_noisylabel.data.dicom_seg import DicomRules
from monai_noisylabel.data.label_codec import (
    LABEL_SUFFIX,
    WITHDRAWN_SUFFIX,
    CorruptLabelError,
    as_label,
    decode_header,
    encode_label,
    file_stem,
)
from monai_noisylabel.data.label_export import ExportReport, export_labels
from monai_noisylabel.data.label_geometry import checked_geometry
from monai_noisylabel.data.label_reader import LabelReader
from monai_noisylabel.data.label_record import (
    changes_in,
    count_changes,
    flush,
    write_record,
)
from monai_noisylabel.data.label_rounds import stamp
from monai_noisylabel.data.original_label import ClassValues
from monai_noisylabel.data.originals import lies_in

__all__ = ["LabelStore"]


class LabelStore(LabelReader):
    r"""Rounds of label proposals in a folder, shared by all processes of a training and by later runs.

    Proposals are *staged* by any number of processes and become visible together, when one process *commits*
    them as the next round. A round is immutable, holds only the labels that it changes, and its record says
    which method changed how many voxels of which case, when and with which code. Originals never enter the
    store.

    A reader sees a round completely or not at all, however a writer ends: a commit is one rename of a folder
    whose files have reached the disk. A run that resumes calls :meth:`rewind` with the round that its
    checkpoint names (a new run: with 0), which also drops whatever a killed run had staged.

    Do not commit from several processes, nor propose while another one commits: let all ranks wait for each
    other before and after. Not meant for file systems without atomic rename, such as mounted object stores.

    Args:
        root: folder of the store; made by the first proposal.
        dataset_dir: folder of the originals. The store refuses to lie in it, and to export into it.

    Raises:
        ValueError: if ``root`` lies in ``dataset_dir``.
        NotADirectoryError: if ``root`` is a file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = LabelStore(folder.name)
        >>> given, better = np.zeros((1, 4, 4), np.uint8), np.eye(4, dtype=np.uint8)[None]
        >>> store.propose("case_01", better, reference=given, loss=0.25)
        >>> store.commit("cleansing after epoch 10", method="self_cleansing")
        1
        >>> print(store.read("case_01").sum(), store.read("case_02"))
        4 None
        >>> store.history("case_01")[0]["voxels_changed"]
        {'1': {'added': 4, 'removed': 0}}
        >>> folder.cleanup()
    """

    def __init__(self, root: str | os.PathLike[str], dataset_dir: str | os.PathLike[str] | None = None) -> None:
        super().__init__(root)
        self.dataset_dir = None if dataset_dir is None else Path(dataset_dir).absolute()
        if self.dataset_dir is not None and lies_in(self.root, self.dataset_dir):
            raise ValueError(
                f"The label store {self.root} lies in the dataset folder {self.dataset_dir}, which must stay "
                "untouched. Choose a folder outside it, such as one below the output folder of the run."
            )

    def propose(
        self,
        case: str,
        label: ArrayLike | torch.Tensor,
        *,
        reference: ArrayLike | torch.Tensor | None = None,
        geometry: Mapping[str, Any] | None = None,
        **facts: object,
    ) -> None:
        r"""Stage a label for the next round, in place of what was staged before for the same case.

        Args:
            case: case id: any text, also with "/".
            label: array or tensor of whole numbers from 0 to 255.
            reference: label to count the changed voxels against, usually the given one.
            geometry: where the voxels lie, for :meth:`export`:
                :func:`~monai_noisylabel.data.label_geometry.geometry_of` the training label.
            facts: anything else worth keeping in the record, such as losses: numbers, strings, lists,
                dictionaries.

        Shape:
            label and reference (1, \*S) for multi-class, (K, \*S) for multi-label.

        Raises:
            ValueError: if the label holds anything but whole numbers from 0 to 255, has no spatial axes, or
                does not fit its reference or geometry.
            TypeError: if a fact cannot be written as JSON.
            RuntimeError: if another process commits meanwhile.
        """
        voxels = as_label(label, f"The label of case {case!r}")
        header: dict[str, Any] = {"case": case, "voxels_changed": None, "geometry": None, "facts": facts}
        if reference is not None:
            try:
                header["voxels_changed"] = count_changes(voxels, as_label(reference, "the reference"))
            except ValueError as error:
                raise ValueError(f"Case {case!r}: {error}") from error
        if geometry is not None:
            header["geometry"] = checked_geometry(geometry, voxels.shape[1:], case)
        self._stage(case, LABEL_SUFFIX, encode_label(voxels, header))

    def withdraw(self, case: str) -> None:
        """Stage the end of a correction: from the next round on the given label of the case stands again."""
        self._stage(case, WITHDRAWN_SUFFIX, encode_label(np.zeros(0, np.uint8), {"case": case}))

    def discard(self, case: str | None = None) -> None:
        """Drop what is staged for a case, or for all (None); it is no error if nothing is."""
        if case is None:
            shutil.rmtree(self.root / "staging", ignore_errors=True)
            return
        for suffix in (LABEL_SUFFIX, WITHDRAWN_SUFFIX):
            (self._staging(self.round + 1) / (file_stem(case) + suffix)).unlink(missing_ok=True)

    def staged(self) -> list[str]:
        """Cases that the next round would change, sorted."""
        files = changes_in(self._staging(self.round + 1))
        return sorted(decode_header(path.read_bytes(), path)["case"] for path in files)

    def commit(self, why: str, *, method: str = "", parameters: Mapping[str, Any] | None = None) -> int:
        """Make everything staged the next round. A round that changes nothing is recorded too.

        Args:
            why: what this round is, in words.
            method: how its labels were made.
            parameters: settings and findings of the method.

        Returns:
            Number of the new round.

        Raises:
            ValueError: if ``why`` is empty.
            TypeError: if ``parameters`` cannot be written as JSON.
            CorruptLabelError: if a staged file is damaged.
            RuntimeError: if another process committed the same round.
        """
        if not why.strip():
            raise ValueError("A round needs a reason: why must not be empty.")
        number = self.round + 1
        staging, target = self._staging(number), self._index.path(number)
        staging.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(exist_ok=True)
        write_record(staging, number, self._record_of(number - 1), why, method, parameters or {})
        stamp(staging)
        try:
            os.rename(staging, target)
        except OSError as error:
            raise RuntimeError(f"Another process committed round {number} of {self.root}; only one may.") from error
        stamp(target.parent)
        flush(target.parent)
        self.discard()  # unfinished files of killed writers
        return number

    def rewind(self, round: int) -> None:
        """Drop all rounds after ``round``, which ``audit.jsonl`` keeps a note of, and everything staged.

        Only one process may rewind, while no other one writes. Killed on the way it leaves a whole, shorter
        history; then rewind again.

        Raises:
            ValueError: if there is no such round.
        """
        last = self._checked(round, first=0)
        self.discard()
        rubbish = self.root / "dropped"
        dropped = [number for number in self._index.current().folders if number > last]
        if dropped:
            self._note({"event": "rewind", "to": last, "dropped": [self._summary(number) for number in dropped]})
            rubbish.mkdir(exist_ok=True)
        for number in reversed(dropped):
            os.rename(self._index.path(number), rubbish / f"{number:04d}-{uuid.uuid4().hex}")
            stamp(self._index.folder)
        shutil.rmtree(rubbish, ignore_errors=True)

    def export(
        self,
        items: Iterable[Mapping[str, Any]],
        out_dir: str | os.PathLike[str],
        *,
        class_values: Sequence[ClassValues],
        classes: Sequence[str] | None = None,
        coloured: bool = False,
        dicom: DicomRules | None = None,
        form: str = "nifti",
        round: int | None = None,
        overwrite: bool = False,
    ) -> ExportReport:
        """Write labels on their original grids: :func:`~monai_noisylabel.data.label_export.export_labels`."""
        return export_labels(
            self,
            items,
            out_dir,
            class_values=class_values,
            classes=classes,
            coloured=coloured,
            dicom=dicom,
            form=form,
            round=round,
            overwrite=overwrite,
            dataset_dir=self.dataset_dir,
        )

    def _stage(self, case: str, suffix: str, data: bytes) -> None:
        stem, folder = file_stem(case), self._staging(self.round + 1)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder.parent / uuid.uuid4().hex
        try:
            unfinished.write_bytes(data)
            for other in {LABEL_SUFFIX, WITHDRAWN_SUFFIX} - {suffix}:
                (folder / (stem + other)).unlink(missing_ok=True)
            os.replace(unfinished, folder / (stem + suffix))
        except FileNotFoundError as error:
            raise RuntimeError(
                f"Case {case!r} was not staged: another process committed or rewound {self.root} meanwhile. "
                "Let all processes propose before one of them commits."
            ) from error

    def _staging(self, number: int) -> Path:
        return self.root / "staging" / f"{number:04d}"

    def _summary(self, number: int) -> dict[str, Any]:
        """What the audit keeps of a round that is dropped, which a damaged record must not prevent."""
        try:
            record = self._read_record(number)
        except CorruptLabelError as error:
            return {"round": number, "problem": str(error)}
        return {key: record[key] for key in ("round", "why", "method", "time_utc")} | {"cases": len(record["cases"])}

    def _note(self, event: Mapping[str, Any]) -> None:
        with open(self.root / "audit.jsonl", "ab") as audit:
            line = json.dumps({"time_utc": datetime.now(UTC).isoformat(timespec="seconds"), **event})
            audit.write(line.encode() + b"\n")
        flush(self.root / "audit.jsonl")
