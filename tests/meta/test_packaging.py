"""The project as it is installed: wheel and sdist build, are complete, and the demo runs from the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.shared_data import CHECKOUT

pytestmark = pytest.mark.slow

PACKAGES = ("refdesign", "simulator")
MODULES = ("_refdesign_command.py", "_refdesign_pytestplugin.py")
FRAMEWORKS = ("torch", "jax", "keras", "tensorflow", "numba", "matplotlib")


def tracked() -> list[PurePosixPath]:
    """The files that git tracks or would track; what a checkout without git has, it cannot say."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("the list of files comes from git, and this is no git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [PurePosixPath(name) for name in listing.split("\0") if name and (CHECKOUT / name).is_file()]


def shipped() -> set[str]:
    """The tracked files of the two packages, and the modules beside them: all of them travel in the wheel."""
    return {str(path) for path in tracked() if path.parts[0] in PACKAGES or str(path) in MODULES}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it, both from a copy of the tree."""
    pytest.importorskip("build", reason="building needs build (extra 'dev')")
    source = tmp_path_factory.mktemp("source")
    for path in tracked():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / path, source / path)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], check=True, capture_output=True
    )
    return out


def test_the_sdist_holds_the_packages_the_tests_and_the_licence(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    missing = shipped() - names
    assert missing == set()
    assert {"LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml", "setup.py"} <= names
    assert "tests/conftest.py" in names


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == shipped()
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the wheel, without any extra, whose site-packages cannot be written."""
    (wheel,) = built.glob("*.whl")
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run(
        [venv / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", CHECKOUT / "constraints.txt", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    site = venv / "lib"
    modes = {path: path.stat().st_mode for path in [site, *site.rglob("*")] if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield venv
    for path, mode in modes.items():
        path.chmod(mode)


def site_packages(venv: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every installed file: root may write where the mode says no."""
    return {
        str(path.relative_to(venv)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in (venv / "lib").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("command", [["bin/refdesign"], ["bin/python", "-m", "refdesign"]], ids=" ".join)
def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path, command: list[str]) -> None:
    folder = tmp_path / "empty"
    decoy = folder / "simulator"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise SystemExit('the decoy ./simulator was imported')\n")
    before = site_packages(installed)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    result = subprocess.run(
        [installed / command[0], *command[1:], "demo"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert site_packages(installed) == before


def test_the_wheel_alone_brings_no_framework(installed: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {FRAMEWORKS} if u.find_spec(n) is not None])"
    result = subprocess.run(
        [installed / "bin/python", "-c", code], capture_output=True, text=True, check=True, cwd=installed
    )
    assert result.stdout.strip() == "[]"
