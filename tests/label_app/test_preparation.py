"""The folder of a review: what it holds, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reviewed_hearts import values_of, write_probabilities
from simulated import digests, write_pictures

import monai_noisylabel.label_app.preparation as module
from monai_noisylabel.audit import audit_dataset
from monai_noisylabel.label_app import Workspace, open_workspace, prepare_workspace
from monai_noisylabel.label_app.scores import read_scores


def _prepare(hearts: Path, audit: bool = True, **options: object) -> Workspace:
    audited = hearts / "audit" if audit else None
    options = {"audit": audited, **options}
    return prepare_workspace(hearts / "data.json", hearts / "data", hearts / "studies", **options)  # type: ignore[arg-type]


def test_cases_are_copied_in_the_order_of_the_audit(hearts: Path) -> None:
    before = digests(hearts / "data"), digests(hearts / "audit")
    seen: list[tuple[int, int]] = []
    workspace = _prepare(hearts, progress=lambda what, done, total: seen.append((done, total)))
    assert list(workspace.items) == ["h3", "h5", "h2", "h4", "h6"]
    assert seen == [(n, 5) for n in range(1, 6)]
    for case in workspace.items:
        image = workspace.image(case)
        assert image.read_bytes() == (hearts / f"data/images/{case}.nii.gz").read_bytes()
        assert not image.is_symlink()
        assert image.stat().st_ino != (hearts / f"data/images/{case}.nii.gz").stat().st_ino
        assert workspace.label(case, "original").is_file()
        assert not workspace.label(case, "final").exists()
    assert [c for c in workspace.items if workspace.label(c, "cleansed").is_file()] == ["h3", "h5"]
    given, proposed = (values_of(workspace.label("h3", tag)) for tag in ("original", "cleansed"))
    assert set(np.unique(given)) == {0, 1, 2}
    assert np.array_equal(proposed != given, proposed == 3)
    score = read_scores(workspace.root)["h5"]
    assert (score.source, score.structure) == ("audit", "wall")
    assert score.label_quality == pytest.approx(0.796, abs=1e-3)
    assert (digests(hearts / "data"), digests(hearts / "audit")) == before


def test_a_prepared_folder_is_opened_as_it_is(hearts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _prepare(hearts)
    state = digests(hearts / "studies")
    monkeypatch.setattr(module, "_write_case", lambda *arguments: pytest.fail("a case is copied again"))
    assert _prepare(hearts).record == open_workspace(hearts / "studies").record == made.record
    assert digests(hearts / "studies") == state


def test_an_interrupted_preparation_goes_on(hearts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = module.write_shown_image

    def interrupted(image: str, target: Path, series: str | None) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(target.name)
        write(image, target)

    monkeypatch.setattr(module, "write_shown_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _prepare(hearts)
    with pytest.raises(FileNotFoundError, match="preparation was interrupted"):
        open_workspace(hearts / "studies")
    monkeypatch.setattr(module, "write_shown_image", lambda *given: (written.append(given[1].name), write(*given)))
    _prepare(hearts)
    assert written == [f"{case}.nii.gz" for case in ("h3", "h5", "h2", "h4", "h6")]


def test_without_an_audit_cases_keep_the_order_of_the_dataset(hearts: Path) -> None:
    workspace = _prepare(hearts, audit=False, split="all")
    assert list(workspace.items) == ["h2", "h3", "h4", "h5", "h6", "h0", "h1"]
    assert read_scores(workspace.root) == {}
    assert not (workspace.root / "labels/cleansed").exists()


def test_folders_that_must_stay_untouched(hearts: Path) -> None:
    before = digests(hearts)
    for studies, kind, message in (
        (hearts / "data/review", ValueError, "lie in each other"),
        (hearts, ValueError, "lie in each other"),
        (hearts / "p", FileExistsError, "holds something else than a review"),
    ):
        with pytest.raises(kind, match=message):
            prepare_workspace(hearts / "data.json", hearts / "data", studies)
    (hearts / "link").symlink_to(hearts / "data")
    with pytest.raises(ValueError, match="lie in each other"):
        prepare_workspace(hearts / "data.json", hearts / "data", hearts / "link/review")
    (hearts / "link").unlink()
    assert digests(hearts) == before


def test_another_review_is_not_mixed_in(hearts: Path) -> None:
    _prepare(hearts)
    with pytest.raises(FileExistsError, match=r"review whose audit is '.*audit', not None"):
        _prepare(hearts, audit=False)
    with pytest.raises(FileExistsError, match=r"whose classes is \['wall', 'cavity', 'bar'\], not \['wall'\]"):
        _prepare(hearts, audit=False, classes=["wall"])


def test_the_audit_of_another_dataset_is_refused(hearts: Path) -> None:
    with pytest.raises(ValueError, match=r"audit of another dataset: its classes is .* here it is \['wall'\]"):
        _prepare(hearts, classes=["wall"])
    (hearts / "audit/cases.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no finished audit: cases\.csv is missing"):
        _prepare(hearts)


def test_a_case_that_cannot_be_shown_is_left_out(hearts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module.write_shown_label

    def refuse(*arguments: object) -> None:
        if "h4" in str(arguments[-1]):
            raise ValueError("the disk is full")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_shown_label", refuse)
    workspace = _prepare(hearts)
    assert list(workspace.items) == ["h3", "h5", "h2", "h6"]
    assert workspace.record["left_out"] == {"h4": "ValueError: the disk is full"}
    assert not (workspace.root / "h4.nii.gz").exists()
    monkeypatch.setattr(module, "_write_case", lambda *arguments: 1 / 0)
    with pytest.raises(ValueError, match=r"None of the 5 cases can be reviewed\. The first one: ZeroDivisionError"):
        prepare_workspace(hearts / "data.json", hearts / "data", hearts / "other")


def test_a_dataset_that_has_lost_cases_is_refused(hearts: Path) -> None:
    _prepare(hearts)
    (hearts / "data/labels/h4.nii").write_bytes(b"no NIfTI")
    with pytest.raises(ValueError, match=r"not in a usable form: h4\. `noisylabel data check` says why"):
        open_workspace(hearts / "studies")


def test_pictures_whose_structures_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    manifest = write_pictures(tmp_path / "data")
    (tmp_path / "data.json").write_text(json.dumps(manifest.model_dump(mode="json", exclude_defaults=True)))
    write_probabilities(tmp_path / "data.json", tmp_path / "data", tmp_path / "p")
    small = tmp_path / "data/small/p2.bmp"
    small.write_bytes((tmp_path / "data/small/p0.bmp").read_bytes())  # two pixels smaller
    audit_dataset(tmp_path / "data.json", tmp_path / "data", tmp_path / "audit", probabilities=tmp_path / "p")
    workspace = _prepare(tmp_path)
    assert workspace.code.label_names == {"large": 1, "small": 2, "large + small": 3}
    case = next(iter(workspace.items))
    assert case == "p2"
    assert workspace.image(case) == tmp_path / "studies/p2.png"
    assert workspace.label(case, "cleansed").name == "p2.png"
    assert workspace.label(case, "cleansed").is_file()
