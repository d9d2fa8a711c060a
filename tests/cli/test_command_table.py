"""The group: its table, its help, and how every failure ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import refdesign.cli
from refdesign.cli import COMMANDS, CommandTable, cli
from refdesign.errors import RefdesignError
from tests.cli.command_line import call, good, process, refused
from tests.shared_data import CHECKOUT


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_the_table_what_its_own_help_says(name: str) -> None:
    assert command(name).get_short_help_str(limit=200).startswith(COMMANDS[name].rstrip("."))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_that_parse(name: str) -> None:
    text = good(name, "--help")
    assert "Examples:" in text
    examples = [line for line in text.splitlines() if line.strip().startswith(f"refdesign {name}")]
    assert examples


def test_the_help_lists_every_command_and_the_exit_statuses() -> None:
    text = good("--help")
    for name, help_line in COMMANDS.items():
        assert f"  {name} " in text
        assert help_line.split()[0] in text
    for status in ("0 done", "1 ", "2 unusable", "130", "141"):
        assert status in " ".join(text.split())


def test_a_bare_call_prints_the_help() -> None:
    result = call()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == good("--help")


def test_the_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom refdesign.cli import main\nsys.argv = ['refdesign', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('refdesign.cli.') or name == 'rich'))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == ""


def test_version() -> None:
    assert good("--version") == f"refdesign {refdesign.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "found the command 'rnu', expected one of demo, run,"),
        (["inof", "digits"], "(did you mean 'info'?)"),
        (["--nonsense"], "--nonsense"),
        (["info"], "MODEL"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["info", "nowhere.safetensors"], "nowhere.safetensors: found no such file, expected a network file or one of"),
        (["run", "digits"], "IMAGES"),
        (["run", "digits", "digits", "--path", "fast"], "'fast'"),
        (["run", "digits", "digits", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_calls_are_one_line_and_status_2(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


class Failing(CommandTable):
    """The table with one command, which raises."""

    failure: BaseException

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        @click.command()
        def info() -> None:
            raise self.failure

        return info


FAILURES = [
    (RefdesignError("a\nb"), 2, "refdesign: a b\n"),
    (FileNotFoundError(2, "No such file or directory", "x.npz"), 2, "refdesign: x.npz: No such file or directory\n"),
    (OSError(28, "No space left on device"), 2, "refdesign: No space left on device\n"),
    (click.UsageError("wrong"), 2, "refdesign: wrong (see 'refdesign info --help')\n"),
    (click.FileError("f", "gone"), 2, None),
    (KeyError("k"), 70, None),
    (KeyboardInterrupt(), 130, ""),
    (click.Abort(), 130, ""),
    (click.exceptions.Exit(1), 1, ""),
]


@pytest.mark.parametrize(("failure", "status", "stderr"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failure_has_its_status_and_at_most_a_line(
    failure: BaseException, status: int, stderr: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Failing("cli", params=cli.params)
    failing.failure = failure
    with pytest.raises(SystemExit) as ended:
        failing.main(["info"])
    assert ended.value.code == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") <= 1
    if stderr is not None:
        assert printed.err == stderr


@pytest.mark.parametrize("failure", [RefdesignError("a"), KeyError("k")])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(
    failure: Exception, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing("cli", params=cli.params)
    failing.failure = failure
    if how == "variable":
        monkeypatch.setenv("REFDESIGN_DEBUG", "1")
    with pytest.raises(SystemExit):
        failing.main(["--debug", "info"] if how == "option" else ["info"])
    assert "Traceback" in capsys.readouterr().err


def test_a_name_outside_the_terminals_encoding_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    failing = Failing("cli", params=cli.params)
    failing.failure = click.exceptions.Exit(0)
    with pytest.raises(SystemExit):
        failing.main(["info"])
    print("×")
    sys.stdout.flush()


def test_stdout_and_stderr_are_apart_in_a_process(model: Path) -> None:
    done = process("info", model, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    failed = process("info", "nowhere")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1
    assert "Traceback" not in failed.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes and signals as in POSIX")
@pytest.mark.parametrize("arguments", [["info", "MODEL", "--json"], ["info", "MODEL"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    running = subprocess.Popen(
        [sys.executable, "-m", "refdesign", *(str(model) if word == "MODEL" else word for word in arguments)],
        cwd=CHECKOUT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    _, stderr = running.communicate(timeout=120)
    assert (running.returncode, stderr) == (refdesign.cli.BROKEN_PIPE, "")


@pytest.mark.skipif(os.name == "nt", reason="pipes and signals as in POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_is_quiet_and_leaves_nothing(workers: int, model: Path, tmp_path: Path) -> None:
    from tests.cli.command_line import interruptible, small_images

    folder = tmp_path / "out"
    folder.mkdir()
    many = small_images(tmp_path / "many.npy", 5000)
    running = subprocess.Popen(
        interruptible("run", model, many, "--path", "naive", "--outputs", "all",
                      "--workers", workers, "--save", folder / "trace.npz"),
        cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(folder.glob(".refdesign.*/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to every process of the group
    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout, stderr) == (refdesign.cli.INTERRUPTED, "", "")
    assert list(folder.iterdir()) == []


INTERRUPTING = """
import os, signal, sys
from _refdesign_command import main

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == during:
            os.kill(os.getpid(), signal.SIGINT)

during, handler = sys.argv[1:]
signal.signal(signal.SIGINT, getattr(signal, handler))
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["info", "digits"]
main()
"""
"""The console script, interrupted when a module is imported."""


@pytest.mark.skipif(os.name == "nt", reason="signals as in POSIX")
@pytest.mark.parametrize("during", ["refdesign", "numpy", "refdesign.api", "click", "refdesign.cli.info"])
def test_an_interrupt_while_it_starts_is_quiet(during: str) -> None:
    ended = script(during, "default_int_handler")
    assert (ended.returncode, ended.stdout, ended.stderr) == (refdesign.cli.INTERRUPTED, "", "")


@pytest.mark.skipif(os.name == "nt", reason="signals as in POSIX")
def test_an_interrupt_that_is_ignored_from_outside_stays_ignored() -> None:
    ended = script("numpy", "SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "")


def script(during: str, handler: str) -> subprocess.CompletedProcess[str]:
    code = [sys.executable, "-c", INTERRUPTING, during, handler]
    return subprocess.run(code, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300)


def test_an_unknown_command_is_not_imported() -> None:
    assert cli.get_command(click.Context(cli), "_common") is None
    assert call("_common").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="descriptors as in POSIX")
@pytest.mark.parametrize(
    ("redirection", "status", "stderr"),
    [
        (">&-", 2, "refdesign: stdout: found it closed, expected it open: what was printed is lost\n"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 2, ""),
        (">/dev/full", 2, "refdesign: No space left on device\n"),
    ],
)
def test_a_closed_or_full_stdout(redirection: str, status: int, stderr: str, model: Path) -> None:
    line = f"'{sys.executable}' -m refdesign info '{model}' {redirection}"
    done = subprocess.run(["sh", "-c", line], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, stderr)
