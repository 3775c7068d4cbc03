from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "monai_noisylabel"
LAYERS = (
    {"masks", "estimation", "selection", "correction", "corruption"},
    {"losses", "networks", "metrics", "data", "transforms"},
    {"engines", "handlers"},
    {"audit", "cli", "cli_audit", "cli_console", "cli_label_app", "cli_study", "label_app", "simulate", "study"},
)
LABEL_APP_SHOWS = ("audit", "simulate")  # it walks an audit and writes a dataset of its own
PURE_LIBRARIES = {"numpy", "scipy", "skimage", "sklearn", "torch"}
IMPURE_STDLIB = {
    "asyncio",
    "concurrent",
    "glob",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "pickle",
}
IMPURE_STDLIB |= {"shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading", "urllib"}
ORCHESTRATION = ("ignite", "monai.engines", "monai.handlers")
SIDEWAYS = ("data.label_store", "data.manifest", "data.predicted_labels")  # from transforms only


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted names below the package, such as ``data.manifest``, and their files."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(source: str, package: str) -> set[str]:
    """Every module that a source imports, also inside functions; ``from a import b`` gives both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, node.module] if node.module else above)
            found.update({origin} | {f"{origin}.{alias.name}" for alias in node.names})
    return found


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise LookupError(f"{part!r} has no layer: give it one in tests/test_layers.py and CONTRIBUTING.md")


def starts_with(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def violations(module: str, imported: set[str]) -> list[str]:
    part = module.split(".")[0]
    layer = layer_of(part) if part else len(LAYERS) - 1  # the package itself gathers all below the products
    return [name for name in sorted(imported) if not allowed(part, layer, name)]


def allowed(part: str, layer: int, name: str) -> bool:
    top, _, below = name.partition(".")
    if top != PACKAGE:
        if layer == 0:
            return top in PURE_LIBRARIES or (top in sys.stdlib_module_names and top not in IMPURE_STDLIB)
        return layer >= 2 or not starts_with(name, ORCHESTRATION)
    target = below.split(".")[0]
    if not below or target == part or target.startswith("_"):
        return True
    if layer_of(target) < layer or part.startswith("cli"):
        return True
    if part == "label_app" and target in LABEL_APP_SHOWS:
        return True
    if part == "transforms" and layer_of(target) == layer:
        return below == "data" or any(starts_with(below, (inner,)) for inner in SIDEWAYS)
    return layer_of(target) == layer and layer in (0, 2)


@pytest.mark.parametrize(("module", "path"), [pytest.param(*item, id=item[0] or PACKAGE) for item in modules()])
def test_imports_go_down_only(module: str, path: Path) -> None:
    inside = f"{PACKAGE}.{module}" if module else PACKAGE
    package = inside if path.name == "__init__.py" else inside.rpartition(".")[0]
    assert violations(module, imports(path.read_text(), package)) == []


@pytest.mark.parametrize(
    ("module", "source", "refused"),
    [
        ("selection.gmm", "import monai", ["monai"]),
        ("selection.gmm", "import os, math\nfrom sklearn.mixture import GaussianMixture", ["os"]),
        ("masks", "def f():\n    from .losses import dice", ["monai_noisylabel.losses"]),
        (
            "losses.dice",
            "from monai.handlers import StatsHandler",
            ["monai.handlers", "monai.handlers.StatsHandler"],
        ),
        ("losses.dice", "from ignite.engine import Engine", ["ignite.engine", "ignite.engine.Engine"]),
        ("networks.tap", "from monai_noisylabel.data import manifest", ["monai_noisylabel.data"]),
        ("transforms.stored", "from monai_noisylabel.data.label_store import LabelStore", []),
        (
            "transforms.stored",
            "from monai_noisylabel.data.phantom import make_phantom",
            ["monai_noisylabel.data.phantom"],
        ),
        ("data.manifest", "from monai_noisylabel.transforms import stored", ["monai_noisylabel.transforms"]),
        ("data.manifest", "from .layout import Layout\nfrom ..masks import to_masks", []),
        (
            "handlers.sweep",
            "from ignite.engine import Events\nfrom monai_noisylabel.data import label_store",
            [],
        ),
        ("handlers.sweep", "from monai_noisylabel.cli import app", ["monai_noisylabel.cli"]),
        ("correction.prototype", "from monai_noisylabel.selection import gmm", []),
        ("correction.prototype", "from ..data import manifest", ["monai_noisylabel.data"]),
        ("cli", "from monai_noisylabel.handlers import sweep", []),
        ("", "from monai_noisylabel import handlers, cli", ["monai_noisylabel.cli"]),
        ("label_app.review", "from monai_noisylabel.audit import records", []),
        ("label_app.review", "from monai_noisylabel.cli_console import console", ["monai_noisylabel.cli_console"]),
        ("audit.page", "from monai_noisylabel.label_app import review", ["monai_noisylabel.label_app"]),
        ("audit.page", "from monai_noisylabel.simulate import records", ["monai_noisylabel.simulate"]),
    ],
)
def test_the_rules_themselves(module: str, source: str, refused: list[str]) -> None:
    package = f"{PACKAGE}.{module}".rpartition(".")[0]
    found = violations(module, imports(source, package))
    assert [name for name in found if name in refused] == refused
    assert all(starts_with(name, tuple(refused)) for name in found)


def test_a_new_part_must_be_given_a_layer() -> None:
    with pytest.raises(LookupError, match="'deployment' has no layer"):
        violations("deployment.server", set())


def test_monai_label_is_imported_where_only_monai_label_imports() -> None:
    inside = "label_app.server"
    users = {
        name for name, path in modules() if "monailabel" in {i.split(".")[0] for i in imports(path.read_text(), "")}
    }
    assert users
    assert all(starts_with(name, (inside,)) for name in users)
    for name, path in modules():
        package = f"{PACKAGE}.{name}".rpartition(".")[0]
        found = [i for i in imports(path.read_text(), package) if starts_with(i, (f"{PACKAGE}.{inside}",))]
        assert found == [] or starts_with(name, (inside,)), name
