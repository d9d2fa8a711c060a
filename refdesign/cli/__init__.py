"""The command line: `refdesign COMMAND ...`, one subcommand a file, thin: parse, call, print.

A subcommand is a line in `COMMANDS`: its name and its one-line help. It lives in the module `refdesign.cli.NAME`
as the click command `NAME`, and is imported only when it is called or its own help is asked for.

Exit statuses, the same for every subcommand:

| status | meaning |
| --- | --- |
| 0 | done |
| 1 | done, and what was compared differs (a disagreement of paths, a failed verification) |
| 2 | the user's input cannot be used: one line on stderr says why |
| 70 | an internal error, that is a bug; `--debug` shows where |
| 130 | interrupted (Ctrl-C) |
| 141 | whoever read the output went away (as in `refdesign info digits | head -1`) |
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from refdesign import __version__
from refdesign.checks import meant
from refdesign.errors import RefdesignError, in_print

COMMANDS: dict[str, str] = {
    "demo": "See a trained network classify handwritten digits on packed bits.",
    "run": "Run a network on images: predictions, and every layer's outputs.",
    "info": "Show a network's layers, shapes, fan-ins, bits and operations.",
    "convert": "Convert a network between file formats, and say what was recognised.",
    "fold": "Show a network's integer thresholds, with their certificate.",
    "explain": "Explain one output bit, step by step.",
    "verify": "Compare an implementation with the reference, and say which bit is wrong first, and why.",
    "conformance": "Run the whole conformance suite on an implementation.",
    "mutants": "Measure the conformance suite: which case notices which wrong implementation.",
    "vectors": "Write test vectors: images, weights, thresholds, and every layer's accumulators and bits.",
    "design": "Find the best threshold kernel of a shape, proven.",
    "train": "Train a network, and export it as a golden network.",
    "evaluate": "Evaluate a network on a whole test set, with any engine.",
    "experiment": "Run a grid of trainings, resumable, and report what it shows.",
    "activations": "See what activations make of a trained layer: maps, total variation, entropy.",
    "explore": "Find the cheapest accelerators of a network: PE and SIMD of every layer for every rate.",
    "simulate": "Run a network on an accelerator: cycles by cause, bits moved, waveforms, memory images.",
    "faults": "Let bits flip or stick in accelerators, and count what it does to predictions.",
    "learn": "Exercises that mark themselves: functions to write, planted bugs to find.",
}
"""The subcommands by name, with their one-line help, in the order of the help page."""

DIFFERENT = 1
USER_ERROR = 2
INTERNAL_ERROR = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

_COMPLETION = "_REFDESIGN_COMPLETE"
"""Set by click's scripts for completion in a shell."""


class CommandTable(click.Group):
    """A group that imports its subcommands on demand and ends every failure with one line and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{__name__}.{cmd_name}: found {command!r}, expected a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"found the command {args[0]!r}, expected one of {', '.join(COMMANDS)}{meant(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") and not isinstance(error, click.exceptions.Exit):
                traceback.print_exc()
            raise

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run one command line and exit; see the module's table of statuses."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        if _COMPLETION in os.environ:
            super().main(arguments, prog_name="refdesign", complete_var=_COMPLETION, **extra)
        closed = _print_anything()
        status = self._status(arguments, **extra)
        if status == 0 and closed is not None and closed.getvalue():
            status = _complain("stdout: found it closed, expected it open: what was printed is lost", USER_ERROR)
        sys.exit(status)

    def _status(self, arguments: list[str], **extra: Any) -> int:
        try:
            with self.make_context("refdesign", arguments, **extra) as ctx:
                self.invoke(ctx)
            sys.stdout.flush()
        except click.exceptions.Exit as ended:
            return _flushed(ended.exit_code)
        except BrokenPipeError:
            return _broken_pipe()
        except SystemExit as ended:  # rich raises it when the reader of a pipe is gone
            if isinstance(ended.__context__, BrokenPipeError):
                return _broken_pipe()
            raise
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" (see '{context.command_path} --help')" if context is not None else ""
            return _complain(f"{error.format_message()}{hint}", USER_ERROR)
        except RefdesignError as error:
            return _complain(str(error), USER_ERROR)
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            return _complain(f"{where}{error.strerror or error}", USER_ERROR)
        except Exception as error:
            return _complain(
                f"internal error, {type(error).__name__}: {error} (this is a bug; 'refdesign --debug ...' shows where)",
                INTERNAL_ERROR,
            )
        return 0


def _complain(message: str, status: int) -> int:
    print("refdesign:", in_print(" ".join(message.split())), file=sys.stderr)
    return status


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _broken_pipe()
    return status


def _broken_pipe() -> int:
    # Python flushes stdout once more when it ends; that must not fail again.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file
        sys.stdout = io.StringIO()
    return BROKEN_PIPE


def _print_anything() -> io.StringIO | None:
    """Give closed streams a stand-in, that of stdout is returned; what the encoding does not have becomes "?"."""
    closed = None
    if sys.stdout is None:
        sys.stdout = closed = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return closed


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"refdesign {__version__}")
        ctx.exit()


@click.group(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 1 what was compared differs; 2 unusable input, with one line on stderr that says why; "
    "70 a bug in refdesign; 130 interrupted; 141 broken pipe.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--debug", is_flag=True, envvar="REFDESIGN_DEBUG", help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """The exact reference for binary networks with dithered sign activations (DeSign).

    \b
    Start here:
      refdesign demo                      a trained network on real digits, three paths, pictures
      refdesign info digits               what the network is made of
      refdesign run digits digits:test    its predictions on the test images
      refdesign explain digits digits:test --layer conv2 --at 3,2,7
                                          why one bit is what it is
    """


def main() -> NoReturn:
    """The command line of this process; the console script `refdesign` comes here by `_refdesign_command`."""
    cli.main()
