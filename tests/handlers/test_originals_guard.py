"""The user's labels are what they were when the training started, or the training says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from ignite.engine import Engine

from monai_noisylabel.data.originals import OriginalChangedError
from monai_noisylabel.handlers import OriginalsGuard


def test_unchanged_files_pass_and_a_changed_one_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nii", tmp_path / "b.nii"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    items = [{"label": str(first)}, {"label": [str(first), str(second)]}]
    quiet = Engine(lambda engine, batch: None)
    OriginalsGuard(items).attach(quiet)
    quiet.run([0], max_epochs=1)
    careless = Engine(lambda engine, batch: second.write_bytes(b"3"))
    OriginalsGuard(items).attach(careless)
    with pytest.raises(OriginalChangedError, match=r"b\.nii has changed"):
        careless.run([0], max_epochs=1)
