"""`refdesign conformance`: the whole suite on an implementation."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from refdesign.cli import _common as common
from refdesign.errors import RefdesignError, missing_extra
from refdesign.frameworks.adapters import adapt
from refdesign.verify.binding import bind, load_target

SUITE = "refdesign.verify.conformance.suite"


@click.command()
@click.option("--impl", metavar="MODULE:NAME", help="The implementation; the current folder is on the path.")
@click.option("--capabilities", type=click.Path(path_type=Path, dir_okay=False), help="What it lacks (TOML).")
@click.option("--examples", type=click.IntRange(min=1), metavar="N", help="Networks a case (default: 25, or more).")
@click.option("--seed", type=int, default=0, show_default=True, help="Which networks.")
@click.option("--cases", metavar="TEXT", help="Only cases whose names contain this; pytest's expressions work.")
@click.option(
    "--failures", type=click.Path(path_type=Path, file_okay=False), default=Path("refdesign-failures"),
    show_default=True, help="Where failing examples are written.",
)  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              metavar="SECONDS", help="For a network.")  # fmt: skip
@click.option("--first-failure", is_flag=True, help="Stop at the first case that fails.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML.")
@click.option("--replay", type=click.Path(path_type=Path, file_okay=False), help="Only this failing example.")
@click.option("--list", "listing", is_flag=True, help="List the cases, and the traits of a capabilities file.")
@common.json_option
@click.pass_context
def conformance(
    ctx: click.Context,
    impl: str | None,
    capabilities: Path | None,
    examples: int | None,
    seed: int,
    cases: str | None,
    failures: Path,
    time_limit: float,
    first_failure: bool,
    junit: Path | None,
    replay: Path | None,
    listing: bool,
    as_json: bool,
) -> None:
    """Run the whole conformance suite on an implementation.

    The implementation is a factory that gets a network and returns a callable of images or a framework's model, or a
    callable of (network, images). Networks of a few layers are drawn at random, case by case; what differs is shrunk
    to the smallest network and images that still differ, diagnosed, and written so that it can be replayed.

    \b
    A capabilities file says what the implementation does not do; that is not run, and listed:
      lacks = ["groups", "dilation", "layer:real_*"]
      [only]
      padding = ["zeros"]
      arithmetic = ["torch"]

    \b
    Examples:
      refdesign conformance --impl mychip.model:make --capabilities mychip.toml
      refdesign conformance --impl mychip.model:make --cases dither
      refdesign conformance --impl mychip.model:make --replay refdesign-failures/padding-zeros

    The same suite runs inside pytest, see 'pytest --help' under refdesign. Exit status 0: every executed case agrees;
    1: one does not; 2: it could not run, or no case was executed.
    """
    for name in ("pytest", "hypothesis"):
        if importlib.util.find_spec(name) is None:
            raise missing_extra("verify", name)
    if listing:
        _list(as_json)
        return
    if impl is None:
        raise RefdesignError("conformance: found no --impl, expected package.module:name")
    if replay is not None:
        ctx.exit(_replay(impl, replay, time_limit, as_json))
    options: list[str | Path] = ["--refdesign-implementation", impl, "--refdesign-seed", str(seed)]
    options += ["--refdesign-failures", failures, "--refdesign-time-limit", str(time_limit)]
    options += [] if capabilities is None else ["--refdesign-capabilities", capabilities]
    options += [] if examples is None else ["--refdesign-examples", str(examples)]
    options += [] if cases is None else ["-k", cases]
    options += ["--exitfirst"] if first_failure else []
    options += [] if junit is None else ["--junit-xml", junit]
    status, report = _run_suite(options, quiet=as_json)
    if as_json:
        common.print_json(report | {"status": status})
    ctx.exit(status)


def _run_suite(options: list[str | Path], *, quiet: bool) -> tuple[int, dict[str, Any]]:
    """Run pytest on the suite, apart from the user's own configuration, plugins and environment.

    A process of its own: an implementation that takes its process with it does not take this one. `-P` keeps the
    current folder from the front of the path, so that no file in it shadows a module.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory(prefix="refdesign-") as scratch:
        configuration, report = Path(scratch, "pytest.ini"), Path(scratch, "report.json")
        configuration.write_text("[pytest]\n", encoding="utf-8")
        command = [
            sys.executable, "-P", "-m", "pytest", "--config-file", configuration, "--rootdir", scratch, "--noconftest",
            "-p", "_refdesign_pytestplugin", "-p", "no:cacheprovider", "--import-mode", "importlib", "--no-header",
            "-rN", "--quiet", "--pyargs", SUITE, "--refdesign-report", report, *options,
        ]  # fmt: skip
        output = subprocess.DEVNULL if quiet else None
        ended = subprocess.run(command, env=environment, stdout=output, check=False).returncode
        if ended < 0:
            raise RefdesignError(f"conformance: the process under test ended by signal {-ended}")
        if ended in (0, 1) and not report.exists():
            raise RefdesignError(f"conformance: the process under test ended with status {ended} before the suite did")
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return {0: 0, 1: 1}.get(ended, 2), found


def _replay(impl: str, folder: Path, time_limit: float, as_json: bool) -> int:
    from refdesign.verify.conformance.judging import judge
    from refdesign.verify.conformance.replay import read

    example = read(folder)
    target = load_target(impl)
    judgement = judge(example, lambda network: bind(target, network, adapt), repeat=True, time_limit=time_limit)
    if as_json:
        common.print_json(
            {"implementation": impl, "example": folder, "fault": judgement.fault, "values": judgement.values}
        )
    elif judgement.fault is None:
        common.console().print(common.cell(f"equal: {judgement.values:,} values in {', '.join(judgement.outputs)}"))
    else:
        common.console().print(common.cell(f"different: {judgement.fault}"), soft_wrap=True)
    return 0 if judgement.fault is None else 1


def _list(as_json: bool) -> None:
    from refdesign.verify.conformance.capabilities import SWITCHES, VALUES
    from refdesign.verify.conformance.cases import CASES

    if as_json:
        cases = [{"case": case.name, "what": case.what, "needs": case.needs} for case in CASES]
        common.print_json({"cases": cases, "only": VALUES, "lacks": SWITCHES})
        return
    console = common.console()
    made = common.table("case", "what it is about", left=("case", "what it is about"))
    for case in CASES:
        made.add_row(common.cell(case.name), common.cell(case.what))
    console.print(made)
    made = common.table("trait", "values", left=("trait", "values"))
    for kind, values in VALUES.items():
        made.add_row(common.cell(kind), common.cell(", ".join(values)))
    for name, meaning in SWITCHES.items():
        made.add_row(common.cell(name), common.cell(meaning))
    console.print(made)
