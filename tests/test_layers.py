"""The structure of the package: imports point down and have no cycle, and the command line imports nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import recsys_mf

ROOT = Path(recsys_mf.__file__).parent
TESTS = Path(__file__).parent

LAYERS = (
    {"errors", "arguments"},
    {"memory", "atomic", "temporary", "outputs", "strict_json", "layout", "storage"},
    {"arrays", "drawing"},
    {"kernels", "conversion"},
    {"ratings", "duplicates", "sharing", "features", "vocabulary", "mismatch", "models"},
    {"loaders", "splits", "prediction"},
    {"serving"},
    {"run", "solvers"},
    {"store", "streaming", "training", "evaluation", "dense", "completion", "exporting"},
    {"experiment", "sklearn", "comparison", "tuning"},
    {"spark"},
    {"cli"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
EXEMPT = {"recsys_mf"}  # the __init__ of the package has the names that users import
HEAVY = ("torch", "numpy", "scipy", "pandas", "pyarrow", "numba", "safetensors", "pyspark")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its full name, parsed."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that a module imports, anywhere in the module."""
    named = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                named.add(inner if inner in modules() else str(node.module))
    return frozenset(named & modules().keys() - EXEMPT)


def part(name: str) -> str:
    """The part of the package that a module is in: recsys_mf.kernels.cpu -> kernels."""
    return name.split(".")[1]


CHECKED = sorted(modules().keys() - EXEMPT)


@pytest.mark.parametrize("name", CHECKED)
def test_every_module_has_a_layer_and_imports_point_down(name: str) -> None:
    assert part(name) in LAYER, f"{part(name)} is in no layer: add it to LAYERS"
    upward = [other for other in imports(name) if LAYER[part(other)] > LAYER[part(name)]]
    assert not upward, f"{name} (layer {LAYER[part(name)]}) imports {upward} from above"


def test_imports_have_no_cycle() -> None:
    waiting = {name: imports(name) - {name} for name in CHECKED}
    while free := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, f"these import one another in a circle, or import one that does: {sorted(waiting)}"


def test_imports_of_parts_have_no_cycle() -> None:
    waiting = {p: {part(other) for name in CHECKED if part(name) == p for other in imports(name)} - {p} for p in LAYER}
    while free := [p for p, needed in waiting.items() if not needed & waiting.keys()]:
        for p in free:
            del waiting[p]
    assert not waiting, f"these parts import one another in a circle: {sorted(waiting)}"


COMPILED = {"numba": ("arrays", "kernels"), "llvmlite": ("arrays", "kernels"), "torch": ("kernels", "dense", "ratings")}


@pytest.mark.parametrize("library", COMPILED)
def test_a_library_of_arithmetic_is_imported_only_by_the_parts_that_use_it(library: str) -> None:
    for name, tree in modules().items():
        named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if any(module.split(".")[0] == library for module in named):
            assert part(name) in COMPILED[library], f"{name} imports {library}"


KERNELS = (
    {"operands", "probit"},
    {"schedule"},
    {"backend"},
    {"reference", "cpu", "torch"},
    {"cases"},
    {"oracle"},
    {"triton"},
    {"devices"},
)


def test_kernels_have_inner_layers_and_devices_do_not_import_each_other() -> None:
    level = {inner: number for number, inners in enumerate(KERNELS) for inner in inners}
    for name in CHECKED:
        if part(name) != "kernels" or name == "recsys_mf.kernels":
            continue
        mine = name.split(".")[2]
        for other in imports(name):
            if part(other) == "kernels" and other != "recsys_mf.kernels":
                theirs = other.split(".")[2]
                assert level[theirs] < level[mine] or theirs == mine, f"{name} imports {other}"


def test_every_module_has_a_line_in_the_architecture_document() -> None:
    tree = (TESTS.parent / "docs" / "architecture.md").read_text().split("## The tree")[1]
    listed = set(re.findall(r"[a-z_]+\.py", tree)) - {"__init__.py"}
    there = {path.name for path in ROOT.rglob("*.py")} - {"__init__.py"}
    assert there - listed == set()
    assert listed - there == {"planted.py", "battery.py"}  # files of the tests


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py")}
    assert set(listed) == there | {"recsys_mf.datasets"}


def test_pickle_is_imported_nowhere() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
            assert not banned & {n.split(".")[0] for n in names}, f"{name}, line {getattr(node, 'lineno', '?')}"


def test_random_numbers_come_only_from_generators() -> None:
    """A draw from the global state of NumPy would make a result depend on what ran before."""
    allowed = {"default_rng", "Generator", "SeedSequence"}
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
                assert node.attr in allowed, f"{name}, line {node.lineno}: np.random.{node.attr}"


@pytest.mark.parametrize("name", ["recsys_mf", "recsys_mf.cli", "recsys_mf.spark"])
def test_importing_the_package_or_the_command_line_loads_nothing_heavy(name: str) -> None:
    script = f"import sys, {name}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_loading_a_run_imports_no_compiler_and_no_library_of_arithmetic() -> None:
    run = TESTS / "data" / "runs" / "format-4" / "gibbs"
    script = f"import sys, recsys_mf; recsys_mf.load({str(run)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not {"numba", "scipy", "torch", "pandas"} & set(done.stdout.split())


@pytest.mark.parametrize("name", recsys_mf.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(recsys_mf, name).__doc__
    assert name in dir(recsys_mf)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'recsys_mf' has no attribute 'trian'$"):
        _ = recsys_mf.trian


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_hides_another_of_the_same_name(path: Path) -> None:
    names = Counter(node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_test_files_have_the_same_name() -> None:
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
