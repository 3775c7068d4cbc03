"""Manifests: what is accepted, what is refused and how, and path templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_files import manifest

from monai_noisylabel.data.layout import Layout, files_of
from monai_noisylabel.data.manifest import load_manifest, shipped_manifests

SHIPPED = ["acdc", "endovis18", "hcc", "hippocampus", "isic2017", "jsrt", "phantom_hcc", "riga", "shenzhen"]


def test_shipped_manifests_are_valid_and_named_like_their_file() -> None:
    assert sorted(shipped_manifests()) == SHIPPED
    for name in SHIPPED:
        loaded = load_manifest(name)
        assert loaded.name == name
        assert loaded.source
        assert loaded.citation
        assert loaded.licence


def test_a_path_comes_before_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jsrt").write_text(manifest(name="mine").model_dump_json())
    assert load_manifest("jsrt").name == "mine"
    assert load_manifest(tmp_path / "jsrt").name == "mine"


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r"'jsr'.*neither a file nor.*jsrt"):
        load_manifest("jsr")


def test_errors_name_the_file_and_every_field(tmp_path: Path) -> None:
    content = json.loads(manifest().model_dump_json(exclude_defaults=True))
    content["splits"]["train"]["count"] = 0
    content["licens"] = content.pop("licence")
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"wrong\.json is not valid") as caught:
        load_manifest(path)
    assert "splits.train.count" in str(caught.value)
    assert "licence: Field required" in str(caught.value)
    assert "licens: Extra inputs" in str(caught.value)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"name": ')
    with pytest.raises(ValueError, match=r"broken\.json is no JSON file"):
        load_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"broken\.json is no JSON file"):
        load_manifest(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../evil"}, "name"),
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"classes": {}}, "classes"),
        ({"classes": {"liver": 0}}, r"classes\.liver: values of a structure are above 0"),
        ({"classes": {"liver": 1, "tumour": 1}}, "values of its own"),
        ({"classes": {"liver": "green"}}, "whole number or a colour"),
        ({"classes": {"liver": None, "tumour": None}, "task": "multi_label"}, "needs a label file per class"),
        ({"patient": "c\\d+"}, "exactly one group"),
        ({"patient": "c("}, "no regular expression"),
        ({"layout": {"image": "/abs/{case}.png", "label": "l/{case}.png"}}, "inside the dataset folder"),
        ({"layout": {"image": "../{case}.png", "label": "l/{case}.png"}}, "inside the dataset folder"),
        ({"layout": {"image": "i/{case.png", "label": "l/{case}.png"}}, "name in braces"),
        ({"layout": {"image": "i/{case}.png", "label": "{rater}/{case}.png"}}, "rater"),
        ({"layout": {"image": "i/{name}.png", "label": "l/{name}.png"}}, "'case'"),
        (
            {"layout": {"image": "i/{case}.png", "label": {"liver": "l/{case}.png"}}},
            "one label file per case",
        ),
        (
            {"task": "multi_label", "layout": {"image": "i/{case}.png", "label": {"liver": "l/{case}.png"}}},
            r"layout\.label names \['liver'\]",
        ),
        (
            {"layout": {"image": ["t1/{case}.nii", "t2/{case}.nii"], "label": "l/{case}.nii"}},
            "2 files for 1 channels",
        ),
        ({"layout": {"image": "i/{case}", "label": "l/{case}", "case": "x"}}, "at least one field"),
        ({"layout": {"image": "{a}/{b}", "label": "l/{b}", "case": "{a}/{b}"}}, "case ids become file names"),
        ({"preprocessing": {"normalise": "window"}}, "needs a window"),
        ({"preprocessing": {"normalise": "zscore", "window": [5, 5]}}, "lower end comes first"),
        ({"preprocessing": {"normalise": "zscore", "spacing": [0, 1, 1]}}, "millimetres above 0"),
        ({"preprocessing": {"normalise": "zscore", "orientation": "RAA"}}, "three axis codes"),
        ({"preprocessing": {"normalise": "zscore", "size": [8, 0]}}, r"preprocessing\.size"),
        ({"splits": {"val": {}, "test": {}}}, "only one of train, val, test"),
        ({"splits": {"val": {"count": 1, "fraction": 0.5}, "test": {}}}, "count or fraction"),
        ({"splits": {"val": {"match": {"case": "("}}, "test": {"count": 1}}}, "no regular expression"),
    ],
)
def test_what_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifest(**changes)


def test_label_values_as_numbers() -> None:
    colours = manifest(classes={"shaft": "#00ff00", "tip": ["#010203", "#000001"]}, background=["#ff0000"])
    assert colours.coloured
    assert colours.values("shaft") == (255 * 256,)
    assert colours.values("tip") == (1 * 65536 + 2 * 256 + 3, 1)
    assert colours.background_values == {0, 255 * 65536}
    numbers = manifest(classes={"whole": [1, 2], "core": 2}, task="multi_label")
    assert not numbers.coloured
    assert numbers.values("whole") == (1, 2)
    lung = manifest(classes={"lung": None}, task="multi_label")
    assert lung.values("lung") is None


def test_patients() -> None:
    assert load_manifest("acdc").patient_of("patient007_frame12") == "patient007"
    assert load_manifest("acdc").patient_of("somebody") is None
    assert load_manifest("jsrt").patient_of("JPCLN001") == "JPCLN001"


@pytest.mark.parametrize(
    ("name", "path", "case"),
    [
        ("phantom_hcc", "/data/x/images/liver_000.nii.gz", "liver_000"),
        ("phantom_hcc", "images/liver_000.nii", "liver_000"),
        ("jsrt", "/data/training/images/JPCLN001.png", "JPCLN001"),
        ("isic2017", "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg", "ISIC_0012086"),
        ("endovis18", "/e/seq_4/left_frames/frame012.png", "seq_4_frame012"),
        ("riga", "/r/MESSIDOR/image7prime.tif", "MESSIDOR_image7"),
        ("acdc", "/tmp/upload/a.b.nii.gz", "a.b"),
        ("jsrt", "C.png", "C"),
        ("jsrt", "/series/without_suffix", "without_suffix"),
    ],
)
def test_case_of_an_image_path(name: str, path: str, case: str) -> None:
    assert load_manifest(name).layout.case_of(path) == case


def test_files_that_fit_a_template(tmp_path: Path) -> None:
    names = [
        "s1/a.nii",
        "s1/b.nii.gz",
        "s1/.hidden.nii",
        "s1/c.txt",
        "s2/x_x.nii",
        "s2/x_y.nii",
        "s2/[z].nii",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "s1/series.nii").mkdir()
    assert list(files_of(tmp_path, "s1/{case}.nii*")) == [
        ("s1/a.nii", {"case": "a"}),
        ("s1/b.nii.gz", {"case": "b"}),
    ]
    assert [path for path, _ in files_of(tmp_path, "s2/{n}_{n}.nii")] == ["s2/x_x.nii"]
    assert list(files_of(tmp_path, "s2/[{case}].nii")) == [("s2/[z].nii", {"case": "z"})]
    assert list(files_of(tmp_path, "s1/{case}/")) == [("s1/series.nii", {"case": "series.nii"})]


def test_layout_of_several_channel_files() -> None:
    layout = Layout(image=["{case}/t1.nii", "{case}/t2.nii"], label="{case}/seg.nii")
    assert layout.images == ("{case}/t1.nii", "{case}/t2.nii")
    assert layout.case_of("/d/p3/t2.nii") == "p3"
