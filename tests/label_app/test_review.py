"""Decisions: how they are named, kept, taken back, and found again after a restart."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from reviewed_hearts import values_of
from simulated import digests

from monai_noisylabel.label_app import Review, open_workspace, prepare_workspace
from monai_noisylabel.label_app.current import current_dataset
from monai_noisylabel.label_app.scores import CaseScore, read_scores, write_scores


@pytest.fixture
def review(hearts: Path) -> Review:
    return Review(prepare_workspace(hearts / "data.json", hearts / "data", hearts / "studies", audit=hearts / "audit"))


def _drawn(review: Review, case: str, tag: str = "original", value: int = 3) -> Path:
    """A label of a case with one more voxel of a structure."""
    volume = nibabel.load(review.workspace.label(case, tag))
    values = np.asarray(volume.dataobj).copy()
    values[1, 2, 3] = value
    path = review.workspace.root.parent / f"drawn_{case}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, volume.affine), path)
    return path


def test_the_label_says_what_was_decided(review: Review) -> None:
    label = review.workspace.label
    assert review.submit("h3", label("h3", "cleansed"), None, "ann").decision == "accepted proposal"
    assert review.submit("h5", label("h5", "original"), None, "ann").decision == "kept original"
    assert review.submit("h2", label("h2", "original"), None, "bob").decision == "kept original"
    edited = review.submit("h4", _drawn(review, "h4"), None, "bob", "a voxel")
    assert (edited.decision, edited.user, edited.note, edited.case) == ("edited", "bob", "a voxel", "h4")
    assert review.submit("h3", _drawn(review, "h3", "cleansed", 0), None, "ann").decision == "accepted proposal"
    assert review.submit("h3", _drawn(review, "h3", "cleansed"), None, "ann").decision == "edited"
    assert len(review.journal.entries()) == 6


def test_decisions_are_written_in_the_form_of_the_given_labels(review: Review, hearts: Path) -> None:
    given = hearts / "data/labels/h2.nii"
    given.write_bytes(given.read_bytes() + b"what no library would write")
    before = digests(hearts / "data")
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    review.submit("h2", review.workspace.label("h2", "original"), None, "ann")
    review.submit("h4", _drawn(review, "h4"), None, "ann")
    written = {case: nibabel.load(review.workspace.reviewed / f"labels/{case}.nii") for case in ("h2", "h3", "h4")}
    for case, found in written.items():
        original = nibabel.load(hearts / f"data/labels/{case}.nii")
        assert bytes(found.header["descrip"]).startswith(b"seen by two readers")
        assert np.array_equal(found.affine, original.affine)
        assert found.get_data_dtype() == original.get_data_dtype()
        different = np.asarray(found.dataobj) != np.asarray(original.dataobj)
        assert different.sum() == {"h2": 0, "h3": 60, "h4": 1}[case]  # 21 stays 21, although both mean cavity
        assert set(np.unique(np.asarray(found.dataobj)[different])) <= {30}
    assert (review.workspace.reviewed / "labels/h2.nii").read_bytes() == given.read_bytes()
    assert digests(hearts / "data") == before


def test_segments_of_a_viewer_in_another_order(review: Review) -> None:
    volume = nibabel.load(review.workspace.label("h3", "cleansed"))
    values = np.asarray(volume.dataobj)
    swapped = np.array([0, 3, 2, 1], np.uint8)[values]
    path = review.workspace.root.parent / "swapped.nii.gz"
    nibabel.save(nibabel.Nifti1Image(swapped, volume.affine), path)
    info = [{"name": "bar", "idx": 1}, {"name": "cavity", "idx": 2}, {"name": "wall", "idx": 3}]
    assert review.submit("h3", path, info, "ann").decision == "accepted proposal"


def test_a_label_that_does_not_fit_decides_nothing(review: Review) -> None:
    state = digests(review.workspace.root)
    for case, file, message in (
        ("h3", review.workspace.image("h3"), "known are 0 background"),
        ("h3", review.workspace.label("h4", "original"), "shape|beside"),
        ("h9", review.workspace.label("h4", "original"), "'h9' is no case of this review"),
    ):
        with pytest.raises(ValueError, match=message):
            review.submit(case, file, None, "ann")
        with pytest.raises(ValueError, match=message):
            review.propose(case, file, None, "ann")
    assert digests(review.workspace.root) == state


def test_the_worst_case_comes_first_and_a_restart_goes_on_there(review: Review) -> None:
    root = review.workspace.root
    assert review.open_cases() == ["h3", "h5", "h2", "h4", "h6"]
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    again = Review(open_workspace(root))
    assert again.open_cases() == ["h5", "h2", "h4", "h6"]
    assert again.decisions() == review.decisions()
    progress = again.progress()
    assert (progress.decided, progress.cases, progress.left_with_findings) == (1, 5, 1)
    assert progress.decisions == {"accepted proposal": 1}


def test_a_decision_that_was_not_written_down_was_not_taken(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review.journal, "append", lambda *values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    again = Review(open_workspace(review.workspace.root))
    assert again.open_cases()[0] == "h3"
    assert (again.workspace.reviewed / "labels/h3.nii").is_file()  # what the journal says is there


def test_skipped_cases_come_last(review: Review) -> None:
    review.skip("h3", "ann", "ask the surgeon")
    assert review.open_cases() == ["h5", "h2", "h4", "h6", "h3"]
    review.skip("h5", "ann")
    assert review.open_cases() == ["h2", "h4", "h6", "h3", "h5"]
    review.submit("h2", review.workspace.label("h2", "original"), None, "ann")
    review.skip("h2", "ann")
    assert review.decisions()["h2"].decision == "kept original"
    assert [entry.decision for entry in review.journal.entries()] == ["skipped", "skipped", "kept original"]
    with pytest.raises(ValueError, match="no case of this review"):
        review.skip("h0", "ann")


def test_a_withdrawn_decision_opens_the_case(review: Review) -> None:
    review.withdraw("h3", "ann")
    assert review.journal.entries() == []
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    review.propose("h3", review.workspace.label("h3", "cleansed"), None, "tool")
    assert set(review.decisions()) == {"h3"}
    review.withdraw("h3", "bob", "too fast")
    assert review.open_cases()[0] == "h3"
    assert review.decisions() == {}
    assert [entry.user for entry in review.journal.entries()] == ["ann", "tool", "bob"]


def test_new_scores_change_the_order(review: Review) -> None:
    scores = read_scores(review.workspace.root)
    write_scores(
        {**scores, "h6": CaseScore(0.99, uncertainty=0.1), "h4": CaseScore(uncertainty=0.2)}, review.workspace.root
    )
    assert review.open_cases() == ["h6", "h3", "h5", "h2", "h4"]
    assert review.open_cases(lambda score: score.uncertainty) == ["h4", "h6", "h3", "h5", "h2"]


def test_what_a_reviewer_is_told(review: Review) -> None:
    told = review.sample("h3")
    assert told["label_quality_structure"] == "bar"
    assert told["label_quality_source"] == "audit"
    assert told["has_proposal"] is True
    assert told["findings"][0]["message"].startswith("bar is not labelled here")
    assert told["findings"][0]["place"].count(",") == 2
    assert (told["decided"], told["cases"], told["left_with_findings"]) == (0, 5, 2)
    assert review.sample("h4")["has_proposal"] is False


def test_training_gets_reviewed_labels_and_given_ones(review: Review, hearts: Path) -> None:
    review.submit("h3", review.workspace.label("h3", "cleansed"), None, "ann")
    labels = {item["case"]: item["label"] for item in current_dataset(review.workspace.root).items_of("all")}
    assert labels["h3"] == str(review.workspace.reviewed / "labels/h3.nii")
    assert labels["h4"] == str(hearts / "data/labels/h4.nii")
    assert (values_of(Path(labels["h3"])) == 30).sum() == 60
    Path(labels["h3"]).write_bytes((hearts / "data/labels/h3.nii").read_bytes())
    with pytest.raises(ValueError, match=r"h3\.nii is not what ann handed in on 20"):
        current_dataset(review.workspace.root)
    Path(labels["h3"]).unlink()
    with pytest.raises(ValueError, match=r"h3\.nii is not what ann"):
        current_dataset(review.workspace.root)


def test_a_link_into_the_dataset_is_not_followed(review: Review, hearts: Path) -> None:
    before = digests(hearts / "data")
    review.workspace.reviewed.symlink_to(hearts / "data")
    for tag in ("cleansed", "original"):
        with pytest.raises(ValueError, match=r"h3\.nii leads into the dataset folder"):
            review.submit("h3", review.workspace.label("h3", tag), None, "ann")
    assert digests(hearts / "data") == before
    assert review.journal.entries() == []
