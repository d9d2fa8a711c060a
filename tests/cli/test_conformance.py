"""`refdesign conformance` and the pytest plugin behind it, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from refdesign.verify.conformance.cases import CASES
from tests.cli.command_line import good, refused
from tests.shared_data import CHECKOUT

PORT = """
import ctypes
import os
from refdesign.verify.mutants.catalogue import mutant
from refdesign.verify.mutants.subject.forward import Implementation as right
import queue as not_ours  # the standard library's, though a file of that name lies here

def wrong(network):
    assert hasattr(not_ours, "SimpleQueue")
    return mutant("matches-only").implementation(network)

def logits(network, images):
    return network.run(images)["logits"]

def module(network):
    import torch

    class Module(torch.nn.Module):
        def forward(self, images):
            pixels = images.permute(0, 2, 3, 1).numpy().astype("uint8")
            return torch.from_numpy(network.run(pixels)["logits"])

    return Module()

def dies(network):
    os.kill(os.getpid(), 9)

def exits(network):
    os._exit(0)

def leaves(network):
    ctypes.CDLL(None).exit(0)
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A user's folder: a port, and a pytest configuration and files that would break any run."""
    (tmp_path / "port.py").write_text(PORT)
    (tmp_path / "queue.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('the user has a conftest')\n")
    return tmp_path


def process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line as its console script runs it: the current folder is not on the path."""
    command = [sys.executable, "-P", "-m", "refdesign", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": "--no-such-option"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The suite inside the user's own pytest."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").unlink(missing_ok=True)
    (folder / "queue.py").unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_right_implementation_passes_whatever_the_users_pytest_is_told(user: Path) -> None:
    result = process("conformance", "--impl", "port:right", "--cases", "counting", "--examples", 3, cwd=user)
    assert (result.returncode, result.stderr) == (0, "")
    assert "4 of 4 executed cases agree in every bit" in result.stdout
    assert "in accumulator, bits, logits" in result.stdout


def test_a_factory_of_a_frameworks_modules_is_asked_as_the_framework_wants_it(user: Path) -> None:
    pytest.importorskip("torch")
    result = process("conformance", "--impl", "port:module", "--cases", "words", "--examples", 2, cwd=user)
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 of 1 executed cases agree in every bit" in result.stdout


def test_a_wrong_one_fails_with_the_smallest_example_its_reason_and_a_replay(user: Path) -> None:
    arguments = ("conformance", "--impl", "port:wrong", "--cases", "words", "--examples", 3)
    result = process(*arguments, cwd=user)
    assert result.returncode == 1
    assert "counting/words: special.accumulator: " in result.stdout
    assert "Traceback" not in result.stdout
    again = ("conformance", "--impl", "port:wrong", "--replay", "refdesign-failures/counting-words")
    replayed = process(*again, cwd=user)
    assert replayed.returncode == 1
    assert replayed.stdout.startswith("different: special.accumulator: ")
    fixed = process("conformance", "--impl", "port:right", *again[3:], cwd=user)
    assert (fixed.returncode, fixed.stdout[:7]) == (0, "equal: ")


def test_json_holds_every_case_and_a_callable_of_network_and_images_will_do(user: Path) -> None:
    result = process(
        "conformance", "--impl", "port:logits", "--cases", "stride or dilation", "--examples", 2, "--json", cwd=user
    )
    report = json.loads(result.stdout)
    assert (result.returncode, report["status"], report["implementation"]) == (0, 0, "port:logits")
    assert {entry["case"]: entry["status"] for entry in report["cases"]} == {
        "windows/stride": "passed",
        "windows/dilation": "passed",
    }
    assert all(entry["outputs"] == {"logits": 2} for entry in report["cases"])


def test_a_run_in_which_no_case_was_executed_is_no_success(user: Path) -> None:
    (user / "cap.toml").write_text('lacks = ["stride"]\n')
    arguments = ("conformance", "--impl", "port:right", "--cases", "stride", "--capabilities", "cap.toml")
    result = process(*arguments, cwd=user)
    assert result.returncode == 2
    assert "not run: windows/stride: declared as lacking: stride" in result.stdout
    assert "no case was executed" in result.stdout
    assert process("conformance", "--impl", "port:right", "--cases", "nosuchcase", cwd=user).returncode == 2


def test_what_cannot_be_loaded_is_said_once(user: Path) -> None:
    missing = process("conformance", "--impl", "port:none", cwd=user)
    assert missing.returncode == 2
    assert (missing.stdout + missing.stderr).count("found no 'none'") == 1
    (user / "cap.toml").write_text("lacks = [")
    wrong = process("conformance", "--impl", "port:right", "--capabilities", "cap.toml", cwd=user)
    assert wrong.returncode == 2
    assert (wrong.stdout + wrong.stderr).count("cap.toml: found no TOML") == 1


def test_an_implementation_that_takes_its_process_with_it_is_reported(user: Path) -> None:
    result = process("conformance", "--impl", "port:dies", "--cases", "words", cwd=user)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "refdesign: conformance: the process under test ended by signal 9\n"
    exited = process("conformance", "--impl", "port:exits", "--cases", "words", cwd=user)
    assert exited.returncode == 1
    assert "raised SystemExit: os._exit(0), in port.py line" in exited.stdout
    left = process("conformance", "--impl", "port:leaves", "--cases", "words", cwd=user)
    assert (left.returncode, left.stdout) == (2, "")
    says = "refdesign: conformance: the process under test ended with status 0 before the suite did\n"
    assert left.stderr == says


def test_the_options_that_are_missing_are_named() -> None:
    assert refused("conformance") == "conformance: found no --impl, expected package.module:name"
    assert "network.safetensors" in refused("conformance", "--impl", "json:loads", "--replay", "nowhere")


def test_the_cases_are_listed() -> None:
    text = good("conformance", "--list")
    assert all(case.name in text for case in CASES)
    assert [entry["case"] for entry in json.loads(good("conformance", "--list", "--json"))["cases"]] == [
        case.name for case in CASES
    ]


def test_inside_the_users_pytest_the_workers_results_are_gathered(user: Path) -> None:
    result = pytest_run(
        user, "--pyargs", "refdesign.verify.conformance.suite", "--refdesign-implementation", "port:right", "-k",
        "padding/", "--refdesign-examples", "2", "-n", "2", "--refdesign-report", "report.json",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "7 of 7 executed cases agree in every bit" in result.stdout
    assert len(json.loads((user / "report.json").read_text())["cases"]) == 7


def test_inside_the_users_pytest_skipping_all_is_no_success_and_no_implementation_is_an_error(user: Path) -> None:
    (user / "cap.toml").write_text('lacks = ["padding:*"]\n')
    suite = ("--pyargs", "refdesign.verify.conformance.suite", "-k", "padding/ and zeros")
    skipped = pytest_run(
        user, *suite, "--refdesign-implementation", "port:right", "--refdesign-capabilities", "cap.toml"
    )
    assert skipped.returncode == 5
    none = pytest_run(user, *suite)
    assert none.returncode == 1
    assert "found no --refdesign-implementation" in none.stdout


def test_the_plugin_loads_nothing_heavy() -> None:
    code = "import sys, _refdesign_pytestplugin; print({'numpy', 'refdesign', 'hypothesis'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
