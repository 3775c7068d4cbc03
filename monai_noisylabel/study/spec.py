"""A study: which methods on which datasets, under which noise, with which seeds, by which rules."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from monai_noisylabel.corruption import NoiseRecipe
from monai_noisylabel.study.yaml_lines import line_of, read_yaml

__all__ = ["CLEAN", "DatasetEntry", "MethodEntry", "ModelName", "Protocol", "Study", "load_study", "presets"]

CLEAN = "clean"
"""Name of the noise of the runs that train on clean labels."""
ModelName = Literal["l_model", "last_10", "b_model"]

RUNNER_KEYS = ("bundle_root", "ckpt_dir", "output_dir", "resume", "settings", "run", "initialize", "finalize", "flags")
STUDY_KEYS = ("manifest", "dataset_dir", "noise", "simulate_noise", "noisy_validation", "seed")
DATA_KEYS = ("data", "prepare", "classes", "num_classes", "spatial_dims", "size", "postprocessing_transforms")
MESSAGES = {
    **dict.fromkeys(RUNNER_KEYS, "the runner decides it for every run"),
    **dict.fromkeys(STUDY_KEYS, "it has a place of its own in a study: datasets, noise, seeds or protocol"),
    "test": "the test set is the same for all runs and has its given labels",
}


def _key(option: str) -> str:
    return option.replace("::", "#").split("#")[0]


def _checked_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    for option in overrides:
        if _key(option) in MESSAGES:
            raise ValueError(f"{option} cannot be overridden: {MESSAGES[_key(option)]}")
    return overrides


def _checked_method_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    for option in overrides:
        if _key(option) in DATA_KEYS:
            raise ValueError(
                f"{option} cannot be overridden for one method: all methods have the same data; give it in the "
                "overrides of the dataset"
            )
    return _checked_overrides(overrides)


def _as_mapping(methods: Any) -> Any:
    """A list of bundles as the mapping it stands for."""
    if isinstance(methods, list) and all(isinstance(entry, str) for entry in methods):
        repeated = {name for name in methods if methods.count(name) > 1}
        if repeated:
            raise ValueError(f"{sorted(repeated)}: listed twice")
        return dict.fromkeys(methods, None)
    return methods


def _checked_recipe(recipe: Any) -> Any:
    made = NoiseRecipe.parse(recipe)
    if not made.models or made.alpha == 0:
        raise ValueError(f"no noise in it; the runs on clean labels ({CLEAN!r}) are part of every study")
    return recipe


Overrides = Annotated[dict[str, Any], AfterValidator(_checked_overrides)]
MethodOverrides = Annotated[dict[str, Any], AfterValidator(_checked_method_overrides)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$", max_length=60)]
Recipe = Annotated[str | dict[str, Any], AfterValidator(_checked_recipe)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetEntry(_Model):
    """A dataset of a study.

    Args:
        manifest: name of a shipped manifest, or a path, relative to the study file.
        dataset_dir: folder of the dataset, relative to the study file; may be given on the command line instead.
        phantom: settings of :func:`~monai_noisylabel.data.make_phantom`, for a phantom of the study's own.
        noise: names of the noise that it is studied under; all by default.
        overrides: options of the bundles for this dataset.
    """

    manifest: str
    dataset_dir: str | None = None
    phantom: dict[str, Any] | None = None
    noise: list[str] | None = None
    overrides: Overrides = {}

    @model_validator(mode="after")
    def _one_source(self) -> DatasetEntry:
        if self.phantom is not None and (self.dataset_dir is not None or self.manifest != "phantom_hcc"):
            raise ValueError("phantom generates the data of manifest phantom_hcc; leave dataset_dir out")
        return self


class MethodEntry(_Model):
    """A method of a study.

    Args:
        bundle: name of a bundle that comes with the library, or a path, relative to the study file; by default the
            name of the method.
        overrides: options of the bundle.
    """

    bundle: str | None = None
    overrides: MethodOverrides = {}


class Protocol(_Model):
    """The rules of a study, the same for all its runs.

    Args:
        baseline: plain training, run on the clean and on the noisy labels; by default the bundle ``baseline``.
        noisy_validation: whether the labels that the B-model is chosen by are as noisy as the training labels, as
            where nobody has clean ones.
        headline: the model that rankings, tests and gaps are about: ``l_model``, the last epoch; ``last_10``, the
            mean of the last ten evaluated epochs; ``b_model``, best on validation.
        threads: threads of each run. Results depend on it, and so not on how many runs go on at a time.
        confidence: of the bootstrap intervals.
        resamples: number of bootstrap samples.
    """

    baseline: MethodEntry = MethodEntry(bundle="baseline")
    noisy_validation: bool = True
    headline: ModelName = "l_model"
    threads: PositiveInt = 1
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: PositiveInt = 2000


class Study(_Model):
    """Methods x datasets x noise x seeds.

    Args:
        name: name of the study and of its MLflow experiment.
        description: what is asked.
        datasets: datasets by name.
        noise: noise recipes by name: a recipe as in a bundle, or the path of a JSON file with one.
        methods: methods by name, or a list of bundles. The baselines need not be listed.
        seeds: seeds of the runs; that of the noise is the same.
        overrides: options of the bundles for all runs. Later ones win: study, dataset, method.
        protocol: the rules.
    """

    name: Name
    description: str = ""
    datasets: Annotated[dict[Name, DatasetEntry], Field(min_length=1)]
    noise: Annotated[dict[Name, Recipe], Field(min_length=1)]
    methods: Annotated[dict[Name, MethodEntry | None], BeforeValidator(_as_mapping), Field(min_length=1)]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    overrides: Overrides = {}
    protocol: Protocol = Protocol()

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        if CLEAN in self.noise:
            raise ValueError(f"noise.{CLEAN}: the name is taken by the runs on clean labels")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has one twice")
        for name, entry in self.datasets.items():
            unknown = [noise for noise in entry.noise or () if noise not in self.noise]
            if unknown:
                raise ValueError(f"datasets.{name}.noise: {unknown} not among {list(self.noise)}")
        return self


def load_study(path_or_name: str | os.PathLike[str], dataset_dirs: Mapping[str, str] | None = None) -> Study:
    """Read a study from a YAML file, or one that comes with the library, by its name.

    Args:
        path_or_name: path of a YAML file, or a name out of :func:`presets`.
        dataset_dirs: folders of datasets, by the names that the study gives them; they replace those of the file.

    Returns:
        The study, with absolute paths and the content of recipe files.

    Raises:
        FileNotFoundError: if there is neither such a file nor such a name.
        ValueError: if it is no study; the message names the file, the lines and the keys.

    Example:
        >>> study = load_study("quick")
        >>> study.name, list(study.datasets), study.seeds
        ('quick', ['phantom'], [0])
    """
    path = Path(path_or_name)
    if not path.is_file():
        found = presets()
        if str(path_or_name) not in found:
            names = ", ".join(found)
            raise FileNotFoundError(f"No study {str(path_or_name)!r}: neither a file nor one of {names}.")
        path = found[str(path_or_name)]
    text = path.read_text(encoding="utf-8")
    try:
        content = _resolved(read_yaml(text), path.resolve().parent)
        study = Study.model_validate(content)
    except ValidationError as error:
        lines = [f"  line {line_of(text, _path_of(e))}: {_place(e['loc'])}{_said(e)}" for e in error.errors()]
        raise ValueError(f"Study {path} is not valid:\n" + "\n".join(lines)) from None
    except ValueError as error:
        raise ValueError(f"Study {path} is not valid: {error}") from None
    return _with_folders(study, dataset_dirs or {})


def presets() -> dict[str, Path]:
    """Names and files of the studies that come with the library."""
    folder = resources.files("monai_noisylabel.study") / "presets"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.yaml"))}


def _place(loc: tuple[str | int, ...]) -> str:
    return ".".join(map(str, loc)) + ": " if loc else ""


def _path_of(error: Any) -> list[str | int]:
    """Keys that lead to what is wrong, those that the message begins with included."""
    return [*error["loc"], *_said(error).partition(":")[0].split(".")]


def _said(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _resolved(content: Any, folder: Path) -> Any:
    """The content with absolute paths, and recipes in place of their files; what is malformed stays as it is."""
    if not isinstance(content, dict):
        raise ValueError("line 1: a study is a mapping of name, datasets, noise, methods and seeds")
    for entry in _mappings(content.get("datasets")):
        for key in ("manifest", "dataset_dir"):
            if isinstance(entry.get(key), str):
                entry[key] = _path(entry[key], folder, must_be_file=key == "manifest")
    baseline = content.get("protocol", {}).get("baseline") if isinstance(content.get("protocol"), dict) else None
    for entry in (*_mappings(content.get("methods")), *_mappings({"": baseline})):
        if isinstance(entry.get("bundle"), str) and (folder / entry["bundle"] / "configs").is_dir():
            entry["bundle"] = str((folder / entry["bundle"]).resolve())
    if isinstance(content.get("noise"), dict):
        content["noise"] = {name: _recipe(value, folder) for name, value in content["noise"].items()}
    return content


def _mappings(entries: Any) -> list[dict[str, Any]]:
    return [e for e in entries.values() if isinstance(e, dict)] if isinstance(entries, dict) else []


def _path(value: str, folder: Path, must_be_file: bool) -> str:
    found = folder / Path(value).expanduser()
    return str(found.resolve()) if found.is_file() or not must_be_file else value


def _recipe(value: Any, folder: Path) -> Any:
    """Content of a recipe file, with the folder of predicted labels relative to it."""
    if isinstance(value, str) and value.endswith(".json"):
        path = folder / Path(value).expanduser()
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"noise: recipe {path} cannot be read: {error}") from None
    return value


def _with_folders(study: Study, dataset_dirs: Mapping[str, str]) -> Study:
    unknown = sorted(set(dataset_dirs) - set(study.datasets))
    if unknown:
        raise ValueError(f"dataset_dir of {unknown}: study {study.name!r} has the datasets {list(study.datasets)}.")
    moved = {
        name: entry.model_copy(update={"dataset_dir": str(Path(dataset_dirs[name]).expanduser().resolve())})
        if name in dataset_dirs
        else entry
        for name, entry in study.datasets.items()
    }
    return study.model_copy(update={"datasets": moved})
