"""A review over REST, as a viewer does it, on a server that is killed in the middle.

The tests of this file are one story and run in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from label_server import PYTHON, LabelServer, small_bundle
from PIL import Image
from reviewed_hearts import values_of, write_audited_hearts
from simulated import digests, write_pictures
from typer.testing import CliRunner

from monai_noisylabel.cli import app
from monai_noisylabel.data import load_dataset

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set NOISYLABEL_LABEL_APP_PYTHON to a Python that has MONAI Label, see docs/review.md"
)

TRAINING = {"max_epochs": 40, "learning_rate": 0.03, "batch_size": 5, "device": "cpu"}


class Story:
    """The server and its folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_audited_hearts(root)
        self.originals = digests(root / "data")
        self.audit = digests(root / "audit")
        self.studies = root / "studies"
        self.bundle = small_bundle(root / "small")
        self.server = LabelServer(root / "server.log")

    def label(self, case: str, tag: str) -> Path:
        return self.studies / "labels" / tag / f"{case}.nii.gz"

    def journal(self) -> list[tuple[str, str, str]]:
        lines = (self.studies / "review/journal.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [(entry["case"], entry["decision"], entry["user"]) for entry in entries]

    def drawn(self, case: str, tag: str) -> Path:
        """A label with one more voxel of the bar."""
        volume = nibabel.load(self.label(case, tag))
        values = np.asarray(volume.dataobj).copy()
        values[1, 2, 3] = 3
        nibabel.save(nibabel.Nifti1Image(values, volume.affine), self.root / "drawn.nii.gz")
        return self.root / "drawn.nii.gz"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("story")
        patch.setenv("NOISYLABEL_CACHE", str(root / "cache"))
        made = Story(root)
        dataset = [root / "data.json", "--dataset_dir", root / "data", "--audit", root / "audit"]
        bundles = ["--bundle", made.bundle, "--bundle", "self_cleansing"]
        try:
            made.server.start(*dataset, "--studies", made.studies, *bundles)
            yield made
        finally:
            made.server.kill()


def test_info_says_what_is_served(story: Story) -> None:
    info = story.server.ask("GET", "/info/").json()
    assert list(info["models"]) == ["proposal", "given_label"]  # no bundle has been trained yet
    assert list(info["trainers"]) == ["small", "self_cleansing"]
    assert {"worst_label_first", "most_uncertain_first"} <= set(info["strategies"])
    assert {"label_quality", "uncertainty"} <= set(info["scoring"])
    assert info["labels"] == ["wall", "cavity", "bar"]
    assert info["datastore"] == {"total": 5, "completed": 0, "label_tags": {"original": 5, "cleansed": 2}}


def test_the_worst_label_comes_first_and_no_one_else_gets_it(story: Story) -> None:
    sample = story.server.next_case(client_id="ann")
    assert sample["id"] == "h3"
    assert Path(sample["path"]).read_bytes() == (story.root / "data/images/h3.nii.gz").read_bytes()
    assert sample["label_quality"] == pytest.approx(0.8, abs=0.01)
    assert sample["findings"][0]["message"].startswith("bar is not labelled here")
    assert story.server.next_case(client_id="bob")["id"] == "h5"
    assert story.server.next_case(client_id="ann")["id"] == "h3"


def test_proposed_and_given_labels_are_shown_as_models_are(story: Story) -> None:
    shown = story.server.predicted("proposal", "h3", story.root / "shown.nii.gz")
    assert np.array_equal(values_of(shown), values_of(story.label("h3", "cleansed")))
    assert (values_of(shown) == 3).sum() == 60
    given = story.server.predicted("given_label", "h3", story.root / "given.nii.gz")
    assert (values_of(given) == 3).sum() == 0
    assert story.label("h3", "cleansed").is_file()  # the server removes what it has sent
    plain = story.server.predicted("proposal", "h4", story.root / "plain.nii.gz")  # no finding, no proposal
    assert np.array_equal(values_of(plain), values_of(story.label("h4", "original")))
    params = story.server.ask("POST", "/infer/proposal?image=h3&output=json", data={"params": "{}"}).json()
    assert (params["tag"], params["label_names"]) == ("cleansed", {"wall": 1, "cavity": 2, "bar": 3})
    untrained = story.server.ask("POST", "/infer/small?image=h3", 409, data={"params": "{}"})
    assert "no weights yet; train it first" in untrained.text


def test_what_was_given_stays(story: Story) -> None:
    before = digests(story.studies / "labels")
    label = story.label("h4", "original")
    assert "is the one of the dataset" in story.server.save("h3", label, "original", 409).text
    story.server.ask("DELETE", "/datastore/label?id=h3&tag=original", 409)
    story.server.ask("DELETE", "/datastore/image?id=h3", 409)
    with label.open("rb") as stream:
        story.server.ask("PUT", "/datastore/image?image=h3", 409, files={"file": ("h3.nii.gz", stream)})
    refused = story.server.save("h3", story.studies / "h3.nii.gz", "final", 422)
    assert "known are 0 background, 1 wall, 2 cavity, 3 bar" in refused.text
    assert digests(story.studies / "labels") == before
    assert not (story.studies / "review/journal.jsonl").exists()
    stored = {"images": ["h3"], "device": "cpu"}
    story.server.ask("POST", "/batch/infer/proposal?run_sync=true", json=stored)
    tags = story.server.ask("GET", "/datastore/").json()["label_tags"]
    assert tags["original"] == 5
    assert tags["predicted"] == 1


def test_labels_are_decided_on_and_proposed(story: Story) -> None:
    server = story.server
    server.save("h2", story.drawn("h2", "original"), "cleansed", client_id="tool")
    assert np.array_equal(values_of(story.label("h2", "cleansed")), values_of(story.root / "drawn.nii.gz"))
    server.save("h3", story.label("h3", "cleansed"), "final", client_id="ann", note="clear")
    info = server.ask("GET", "/datastore/label/info?label=h3&tag=final").json()
    assert (info["decision"], info["user"]) == ("accepted proposal", "ann")
    assert story.journal() == [("h2", "proposed", "tool"), ("h3", "accepted proposal", "ann")]
    assert (values_of(story.studies / "review/labels/labels/h3.nii") == 30).sum() == 60
    tags = server.ask("GET", "/datastore/").json()["label_tags"]
    assert (tags["original"], tags["cleansed"], tags["final"]) == (5, 3, 1)
    assert server.next_case(client_id="ann", skip="h5", note="ask first")["id"] == "h2"
    server.ask("POST", "/activelearning/worst_label_first", 404, json={"skip": "h9"})


def test_a_killed_server_goes_on_where_it_was(story: Story) -> None:
    story.server.kill()
    listed = story.studies / "datastore_v2.json"
    listed.write_bytes(listed.read_bytes()[:100])  # it was being written
    story.server.start("--studies", story.studies, "--bundle", story.bundle)
    info = story.server.ask("GET", "/info/").json()
    assert info["datastore"]["completed"] == 1
    assert list(info["trainers"]) == ["small"]
    sample = story.server.next_case()
    assert (sample["id"], sample["decided"]) == ("h2", 1)
    assert sample["has_proposal"] is True
    story.server.save("h2", story.label("h2", "cleansed"), "final", client_id="cat")
    assert story.journal()[2:] == [("h5", "skipped", "ann"), ("h2", "accepted proposal", "cat")]
    assert story.server.next_case()["id"] == "h4"


def test_a_bundle_is_trained_on_the_labels_as_they_are(story: Story) -> None:
    reviewed = story.studies / "review/labels/labels/h3.nii"
    content = reviewed.read_bytes()
    reviewed.write_bytes((story.root / "data/labels/h3.nii").read_bytes())
    refused = story.server.ask("POST", "/train/small?run_sync=true", 409, json=TRAINING)
    assert "h3.nii is not what ann handed in" in refused.text
    assert "current_dataset" not in story.server.log.read_text()
    reviewed.write_bytes(content)
    story.server.ask("POST", "/train/small", json=TRAINING)
    done = story.server.finished("train")
    assert done["status"] == "DONE", done
    assert "> data: {'_target_': 'monai_noisylabel.label_app.current.current_dataset'" in story.server.log.read_text()
    model = story.studies / "app/model/small"
    assert (model / "models/model.pt").is_file()
    settings = json.loads((model / "eval/summary.json").read_text())["settings"]
    assert (settings["noise"], settings["max_epochs"], settings["batch_size"]) == ("none", 40, 5)
    assert settings["manifest"] == str(story.studies / "manifest.json")
    assert list(story.server.ask("GET", "/info/").json()["models"]) == ["proposal", "given_label", "small"]


def test_the_trained_bundle_predicts_on_the_grid_of_the_image(story: Story) -> None:
    predicted = story.server.predicted("small", "h5", story.root / "predicted.nii.gz")
    image, truth = nibabel.load(story.studies / "h5.nii.gz"), values_of(story.label("h5", "cleansed"))
    assert np.allclose(nibabel.load(predicted).affine, image.affine, atol=1e-4)
    found = values_of(predicted)
    assert found.shape == image.shape
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    assert 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum()) > 0.6
    again = {**TRAINING, "max_epochs": 1, "learning_rate": 1e-9, "pretrained": True}
    story.server.ask("POST", "/train/small?run_sync=true", json=again)
    continued = story.server.predicted("small", "h5", story.root / "continued.nii.gz")
    assert np.mean(values_of(continued) == found) > 0.95
    story.server.ask("POST", "/train/small?run_sync=true", json={**again, "pretrained": False})
    anew = story.server.predicted("small", "h5", story.root / "anew.nii.gz")
    assert np.mean(values_of(anew) == found) < 0.95


def test_scores_decide_the_order(story: Story) -> None:
    story.server.ask("POST", "/train/small?run_sync=true", json=TRAINING)
    answer = story.server.ask("POST", "/scoring/label_quality?run_sync=true", json={"device": "cpu"}).json()
    assert (answer["model"], answer["failed"]) == ("small", {})
    scores = {case: values["label_quality"] for case, values in answer["scores"].items()}
    assert set(scores) == {"h2", "h3", "h4", "h5", "h6"}
    assert max(scores, key=lambda case: scores[case]) == "h5"  # the only wrong label that is left
    assert answer["scores"]["h5"]["label_quality_structure"] == "wall"
    info = story.server.ask("GET", "/datastore/image/info?image=h5").json()
    assert (info["label_quality"], info["label_quality_source"]) == (scores["h5"], "small")
    uncertain = {case: values["uncertainty"] for case, values in answer["scores"].items()}
    assert all(0 < value < 1 for value in uncertain.values())
    left = {case: scores[case] for case in ("h4", "h6")}  # h5 was skipped and comes last
    assert story.server.next_case()["id"] == max(left, key=lambda case: left[case])
    wanted = max(left, key=lambda case: uncertain[case])
    assert story.server.next_case("most_uncertain_first")["id"] == wanted
    story.server.ask("POST", "/scoring/label_quality?run_sync=true", 409, json={"model": "self_cleansing"})


def test_the_review_ends_and_is_exported(story: Story) -> None:
    server = story.server
    for _ in range(2):
        case = server.next_case()["id"]
        server.save(case, story.label(case, "original"), "final")
    assert server.next_case()["id"] == "h5"
    info = [{"name": "Wall", "idx": 1}, {"name": "cavity", "idx": 2}, {"name": "bar", "idx": 3}]
    server.save("h5", story.drawn("h5", "cleansed"), "final", client_id="cat", label_info=info)
    assert server.next_case() == {}
    server.ask("DELETE", "/datastore/label?id=h5&tag=final")
    assert server.next_case()["id"] == "h5"
    server.save("h5", story.drawn("h5", "cleansed"), "final", client_id="cat")
    entries = story.journal()[-3:]
    assert entries == [("h5", "edited", "cat"), ("h5", "withdrawn", "unknown"), ("h5", "edited", "cat")]
    out = story.root / "out"
    result = CliRunner().invoke(app, ["label-app", "export", "--studies", str(story.studies), "--out", str(out)])
    assert result.exit_code == 0, result.output
    spec = load_dataset(out / "manifest.json", out)
    assert [len(spec.train), len(spec.val), len(spec.test), spec.left_out] == [5, 1, 1, []]
    result = CliRunner().invoke(app, ["data", "check", str(out / "manifest.json"), "--dataset_dir", str(out)])
    assert result.exit_code == 0, result.output
    assert (values_of(out / "labels/h5.nii") == 10).sum() > 0
    assert len((out / "review.csv").read_text().splitlines()) == 6


def test_nothing_of_the_users_was_written_to(story: Story) -> None:
    assert digests(story.root / "data") == story.originals
    assert digests(story.root / "audit") == story.audit
    assert not (story.bundle / "models").exists()


def test_pictures_whose_structures_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    content = write_pictures(tmp_path / "data").model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "data.json").write_text(json.dumps(content))
    before = digests(tmp_path / "data")
    server = LabelServer(tmp_path / "server.log")
    dataset = [tmp_path / "data.json", "--dataset_dir", tmp_path / "data", "--studies", tmp_path / "studies"]
    try:
        server.start(*dataset, "--bundle", small_bundle(tmp_path / "small"))
        assert server.ask("GET", "/info/").json()["labels"] == ["large", "small", "large + small"]
        server.ask("POST", "/train/small?run_sync=true", json={**TRAINING, "max_epochs": 30, "batch_size": 3})
        found = np.asarray(Image.open(server.predicted("small", "p1", tmp_path / "predicted.png")))
        shown = np.asarray(Image.open(tmp_path / "studies/labels/original/p1.png"))
        assert found.shape == shown.shape == (40, 48)
        assert set(np.unique(found)) <= {0, 1, 2, 3}
        overlap = 2 * ((found & 1) & (shown & 1)).sum() / ((found & 1).sum() + (shown & 1).sum())
        assert overlap > 0.6
        answer = server.ask("POST", "/scoring/label_quality?run_sync=true", json={"device": "cpu"}).json()
        assert set(answer["scores"]) == {"p0", "p1", "p2"}
        server.save("p1", tmp_path / "studies/labels/original/p1.png", "final")
        assert server.ask("GET", "/datastore/").json()["completed"] == 1
    finally:
        server.kill()
    assert digests(tmp_path / "data") == before
