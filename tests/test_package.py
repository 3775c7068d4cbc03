from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_noisylabel"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES = 300
FUNCTION_LINES = 40
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image", "sklearn": "scikit-learn"}
MONAI_LABEL = {"fastapi", "monailabel", "pydicom_seg", "torchvision"}  # in an environment of its own
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def public_definitions(tree: ast.Module) -> Iterator[Definition]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    stack: list[ast.AST] = [tree]
    while stack:
        for node in ast.iter_child_nodes(stack.pop()):
            if isinstance(node, Definition) and not node.name.startswith("_") and not is_setter(node):
                yield node
                if isinstance(node, ast.ClassDef):
                    stack.append(node)


def is_setter(node: Definition) -> bool:
    """Whether this is the second half of a property, whose first half has the docstring."""
    return any(isinstance(decorator, ast.Attribute) and decorator.attr == "setter" for decorator in node.decorator_list)


def length_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in SOURCES}


def absolute_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_fit_the_budget_and_say_what_they_are(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MODULE_LINES
    assert ast.get_docstring(ast.parse(source)), "a module starts with its docstring"


def test_95_percent_of_functions_fit_the_budget() -> None:
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": length_without_docstring(node)
        for path, tree in parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    long = [name for name, length in lengths.items() if length > FUNCTION_LINES]
    assert len(long) <= 0.05 * len(lengths), f"longer than {FUNCTION_LINES} lines: {long}"


def test_public_functions_and_classes_are_documented() -> None:
    silent = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path, tree in parsed().items()
        for node in public_definitions(tree)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [name_of(path) for path in SOURCES if path.stem in {"common", "helpers", "misc", "utils"}] == []


def test_setup_lists_every_folder_with_modules() -> None:
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    moved = {"monai_noisylabel.bundles", "monai_noisylabel.data_manifests"}
    assert set(setup()["options"]["packages"].split()) == folders | moved
    assert (PACKAGE / "py.typed").exists()
    assert [folder for folder in folders if not (ROOT / folder.replace(".", "/") / "__init__.py").exists()] == []


def test_every_imported_library_is_required() -> None:
    imported = {name.split(".")[0] for tree in parsed().values() for name in absolute_imports(tree)}
    third_party = imported - set(sys.stdlib_module_names) - {"monai_noisylabel"}
    required = setup()["options"]["install_requires"].replace("[", " ").replace("]", " ").replace(",", " ")
    names = {re.split("[<>=]", word)[0] for word in required.split()}
    extras = setup()["options.extras_require"]
    optional = {re.split("[<>=]", word)[0] for name in ("cluster", "dicom") for word in extras[name].split()}
    optional |= MONAI_LABEL
    assert {DISTRIBUTIONS.get(name, name) for name in third_party} - names - optional == set()


def test_what_is_optional_is_imported_by_its_own_module_alone() -> None:
    of_cluster = set(setup()["options.extras_require"]["cluster"].split())
    for optional, importer in ((of_cluster, "study/dask_executor"), ({"highdicom"}, "data/dicom_seg_writer")):
        tops = {
            name_of(path): {name.split(".")[0] for name in absolute_imports(tree)} for path, tree in parsed().items()
        }
        importers = {module for module, found in tops.items() if optional & found}
        assert importers == {f"monai_noisylabel/{importer}.py"}
    found = {
        name_of(path.parent)
        for path, tree in parsed().items()
        if MONAI_LABEL & {name.split(".")[0] for name in absolute_imports(tree)} and path.name != "launch.py"
    }
    assert found == {"monai_noisylabel/label_app/server"}


def test_constraints_pin_every_requirement_to_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    options = setup()
    extras = options["options.extras_require"]
    needed = options["options"]["install_requires"] + extras["dev"] + extras["cluster"] + extras["dicom"]
    wanted = {re.split(r"[\[<>=]", line.strip())[0].lower() for line in needed.splitlines() if line.strip()}
    assert wanted - pinned == set()


def test_readme_prints_the_test_command_that_ci_runs() -> None:
    printed = re.search(r'python -m pip install "\.\[dev\]" && (.+)', (ROOT / "README.md").read_text())
    assert printed is not None
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == printed[1]
