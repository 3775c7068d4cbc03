"""The study file: what it may say, and what an error says."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent

import pytest

from monai_noisylabel.data.bundle_folders import bundle_folder, shipped_bundles
from monai_noisylabel.study.cells import cells_of
from monai_noisylabel.study.spec import load_study, presets

GOOD = """\
name: made_up
datasets:
  chest:
    manifest: jsrt
    dataset_dir: data/jsrt
noise:
  off: {model: boundary, beta: 5}
methods: [t_loss]
seeds: [0, 1]
"""


def load(folder: Path, text: str, **options: object) -> object:
    (folder / "study.yaml").write_text(text)
    return load_study(folder / "study.yaml", **options)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "recipe.json").write_text('{"model": "missing", "alpha": 0.2}')
    text = GOOD.replace("manifest: jsrt", "manifest: mine.json").replace("{model: boundary, beta: 5}", "recipe.json")
    study = load(tmp_path, text)
    assert study.datasets["chest"].manifest == str(tmp_path / "mine.json")
    assert study.datasets["chest"].dataset_dir == str(tmp_path / "data/jsrt")
    assert study.noise == {"off": {"model": "missing", "alpha": 0.2}}
    assert load(tmp_path, GOOD).datasets["chest"].manifest == "jsrt"


def test_folders_can_be_given_apart(tmp_path: Path) -> None:
    study = load(tmp_path, GOOD, dataset_dirs={"chest": str(tmp_path / "elsewhere")})
    assert study.datasets["chest"].dataset_dir == str(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"dataset_dir of \['heart'\]: study 'made_up' has the datasets \['chest'\]"):
        load(tmp_path, GOOD, dataset_dirs={"heart": "x"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [0, 1]", "seeds: [0, -1]", r"line 9: seeds\.1: Input should be greater than or equal to 0"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"line 9: seeds: \[0, 0\] has one twice"),
        ("    dataset_dir:", "    dataset_folder:", r"line 5: datasets\.chest\.dataset_folder: Extra inputs"),
        ("beta: 5", "betta: 5", r"line 7: noise\.off.*unknown fields \['betta'\]"),
        ("boundary, beta: 5", "boundary, alpha: 0", r"line 7: noise\.off.*no noise in it"),
        ("off:", "clean:", r"line 7: noise\.clean: the name is taken"),
        ("[t_loss]", "[t_loss, t_loss]", r"line 8: methods: \['t_loss'\]: listed twice"),
        ("[t_loss]", "\n  t_loss: {overrides: {noise: none}}", r"line 9: .*overrides: noise cannot be overridden"),
        ("[t_loss]", "\n  t_loss: {overrides: {seed: 5}}", r"line 9: .*seed cannot be overridden"),
        (
            "[t_loss]",
            "\n  t_loss: {overrides: {'size': [8, 8]}}",
            r"line 9: .*size cannot be overridden for one method",
        ),
        (
            "[t_loss]",
            "\n  t_loss:\n    overrides:\n      test#preprocessing: 1",
            r"line 10: .*test#preprocessing cannot be overridden: the test set is the same",
        ),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", r"line 10: 'seeds' is there already, in line 9"),
        ("seeds: [0, 1]", "seeds: [0, 1", r"line 10: "),
        ("manifest: jsrt", "manifest: jsrt\n    noise: [on]", r"line 5: datasets\.chest\.noise: \['on'\] not among"),
        ("manifest: jsrt", "manifest: jsrt\n    phantom: {}", r"line 3: datasets\.chest: phantom generates"),
        ("{model: boundary, beta: 5}", "no_such.json", r"noise: recipe .*no_such\.json cannot be read"),
    ],
)
def test_errors_name_line_and_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=rf"study\.yaml is not valid:\s+{message}"):
        load(tmp_path, GOOD.replace(old, new))


def test_neither_file_nor_name() -> None:
    with pytest.raises(FileNotFoundError, match=r"No study 'no_such': neither a file nor one of .*quick"):
        load_study("no_such")


def test_later_overrides_win_and_both_baselines_are_there(tmp_path: Path) -> None:
    text = dedent("""\
        name: made_up
        datasets:
          a: {manifest: jsrt, dataset_dir: /a, overrides: {max_epochs: 2, batch_size: 3}}
          b: {manifest: acdc, dataset_dir: /b, noise: [near]}
        noise: {near: {model: boundary, alpha: 0.3}, far: missing}
        methods:
          robust: {bundle: robust_loss, overrides: {loss: SCE, batch_size: 4}}
          t_loss:
        seeds: [5, 6]
        overrides: {max_epochs: 1, learning_rate: 1e-4, batch_size: 2}
        protocol: {threads: 3, baseline: {bundle: robust_loss, overrides: {loss: CE}}}
        """)
    cells = {cell.name: cell for cell in cells_of(load(tmp_path, text), tmp_path)}
    settings = {name.rpartition("/")[0] for name in cells}
    a = {"a/clean/baseline"} | {f"a/{noise}/{m}" for noise in ("near", "far") for m in ("baseline", "robust", "t_loss")}
    assert settings == a | {"b/clean/baseline", "b/near/baseline", "b/near/robust", "b/near/t_loss"}
    assert len(cells) == 2 * len(settings)
    robust = cells["a/near/robust/seed6"]
    assert Path(robust.bundle).name == "robust_loss"
    expected = {"max_epochs": 2, "learning_rate": 1e-4, "batch_size": 4, "loss": "SCE", "seed": 6}
    assert {key: robust.options[key] for key in expected} == expected
    assert (robust.options["noise"]["alpha"], robust.options["noisy_validation"], robust.threads) == (0.3, True, 3)
    clean = cells["a/clean/baseline/seed5"]
    assert (clean.options["noise"], clean.options["noisy_validation"], clean.options["loss"]) == ("none", False, "CE")
    assert cells["b/near/t_loss/seed5"].options["max_epochs"] == 1


def test_another_method_must_not_be_called_baseline(tmp_path: Path) -> None:
    text = GOOD.replace("[t_loss]", "{baseline: {overrides: {max_epochs: 3}}, t_loss: }")
    with pytest.raises(ValueError, match=r"methods\.baseline: the name is taken"):
        cells_of(load(tmp_path, text), tmp_path)
    cells = cells_of(load(tmp_path, GOOD.replace("[t_loss]", "[baseline, t_loss]")), tmp_path)
    assert len({cell.name for cell in cells}) == len(cells) == 6


def test_a_bundle_by_path_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mine/configs").mkdir(parents=True)
    shutil.copy(bundle_folder("baseline") / "configs/train.json", tmp_path / "mine/configs/train.json")
    cells = cells_of(load(tmp_path, GOOD.replace("[t_loss]", "{my_own: {bundle: mine}}")), tmp_path)
    assert cells[-1].bundle == str(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"No bundle 'no_such': neither a folder with configs/train.json nor"):
        cells_of(load(tmp_path, GOOD.replace("t_loss", "no_such")), tmp_path)


@pytest.mark.parametrize("name", presets())
def test_shipped_studies_name_what_is_there(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    assert study.name == name
    assert cells_of(study, tmp_path)


def test_an_option_that_a_bundle_does_not_have(tmp_path: Path) -> None:
    wrong = GOOD.replace("[t_loss]", "{t_loss: {overrides: {learning_rat#x: 1}}}")
    with pytest.raises(ValueError, match="bundle t_loss has no option 'learning_rat#x'; did you mean learning_rate"):
        cells_of(load(tmp_path, wrong), tmp_path)
    with pytest.raises(ValueError, match=r"has no option 'qqq'; see its configs/train\.json"):
        cells_of(load(tmp_path, wrong.replace("learning_rat#x", "qqq")), tmp_path)


def test_the_quick_study_has_every_bundle() -> None:
    used = {entry.bundle if entry and entry.bundle else name for name, entry in load_study("quick").methods.items()}
    assert used | {"baseline"} == set(shipped_bundles())
