"""`refdesign verify`: an implementation against the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from refdesign import api
from refdesign.cli import _common as common
from refdesign.cli import _verdict as terminal
from refdesign.cli._going_on import explain_command
from refdesign.errors import RefdesignError
from refdesign.formats import atomic
from refdesign.frameworks.adapters import adapt, is_model_file, read_model
from refdesign.frameworks.adapting import Adapted
from refdesign.verify.binding import bind, load_target
from refdesign.verify.blind import blind_spots
from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.doors.door import Door
from refdesign.verify.doors.files import FilesDoor
from refdesign.verify.doors.mapping import read_map
from refdesign.verify.doors.pipe import PipeDoor
from refdesign.verify.fresh import made_images
from refdesign.verify.implementation import Finding
from refdesign.verify.reports import data, html, junit, text
from refdesign.verify.vectors import read_images
from refdesign.verify.verdict import Sample, Verdict


@click.command()
@common.model_argument
@click.argument("images", nargs=-1)
@click.option("--impl", metavar="MODULE:NAME", help="A Python callable or a framework's model: package.module:name "
              "(the current folder is on the path), file.py:name, or a file .onnx, .keras, .pt2.")  # fmt: skip
@click.option("--pipe", metavar="COMMAND", help="A program: vectors on its stdin, answers on its stdout.")
@click.option("--files", type=click.Path(path_type=Path, file_okay=False), help="A folder of results.")
@click.option("--map", "mapping", type=click.Path(path_type=Path, dir_okay=False),
              help="How --files are laid out, or where a model holds what (TOML).")  # fmt: skip
@click.option("--binary", is_flag=True, help="Use the pipe's binary form.")
@click.option(
    "--in-flight", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Cases in the pipe."
)
@click.option(
    "--vectors", type=click.Path(path_type=Path, file_okay=False), help="Take the images of this folder of vectors."
)
@click.option("--random", "count", type=click.IntRange(min=0), default=235, show_default=True, metavar="N",
              help="Random images beside the directed ones, where no IMAGES are given.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random images.")
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="The first N images only.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at a time (default: by memory).")
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              metavar="SECONDS", help="For a batch, or for a case in the pipe.")  # fmt: skip
@click.option("--isolated", is_flag=True, help="Feed every layer the reference's inputs (needs run_layer).")
@click.option("--exact", is_flag=True, help="Ask for equality in real logits too, not just within rounding.")
@click.option("--diagnosis/--no-diagnosis", default=True, help="Look for the reason (default) or not.")
@click.option("--diagnosis-time", type=click.FloatRange(min=0), default=50.0, show_default=True, metavar="SECONDS",
              help="Processor time for finding the reason, so that load changes no verdict.")  # fmt: skip
@click.option("--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML.")
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write one HTML file.")
@common.resize_option
@common.root_option
@common.json_option
@click.pass_context
def verify(
    ctx: click.Context,
    model: str,
    images: tuple[str, ...],
    impl: str | None,
    pipe: str | None,
    files: Path | None,
    mapping: Path | None,
    binary: bool,
    in_flight: int,
    vectors: Path | None,
    count: int,
    seed: int,
    first: int | None,
    batch_size: int | None,
    time_limit: float,
    isolated: bool,
    exact: bool,
    diagnosis: bool,
    diagnosis_time: float,
    junit_file: Path | None,
    html_file: Path | None,
    resize: bool,
    root: Path | None,
    as_json: bool,
) -> None:
    """Compare an implementation with the reference, and say which bit is wrong first, and why.

    MODEL and IMAGES are as in 'refdesign run'; without IMAGES, directed and random ones are made. Exactly one of
    --impl, --pipe and --files says where the implementation is.

    \b
    Examples:
      refdesign verify digits digits:test --impl mychip.model:forward
      refdesign verify digits --pipe "./dut --fast" --html report.html
      refdesign verify digits --vectors vectors/ --files simulation/ --map layout.toml

    Exit status 0: equal, the last layer included; 1: different, or the implementation is at fault; 2: it could not
    run, or the last layer was not compared.
    """
    for name in ("binary", "in_flight"):
        if pipe is None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise RefdesignError(f"--{name.replace('_', '-')}: found no --pipe beside it, which it is for")
    if html_file is not None:
        html.check_installed()
    here = Path.cwd()  # code under test may change it
    network = common.load_model(model)
    pixels = _images(network, images, vectors, count, seed, root, resize)[:first]
    with (
        common.foreign_code(quiet=as_json),
        _door(network, impl, pipe, files, mapping, binary, in_flight, time_limit, first is not None) as door,
    ):
        with common.progress_bar(f"{network.name}, {door.what}") as advance:
            verdict = compare(
                network, door, pixels, batch_size=batch_size, isolated=isolated, exact=exact,
                progress=lambda done: advance(done, len(pixels)),
            )  # fmt: skip
        verdict.findings += blind_spots(network)
        of_others = files is not None and vectors is None and not images and _of_other_images(door, verdict)
        wanted = verdict.sample if diagnosis and verdict.differing and not of_others else None
        if wanted is None:
            verdict.findings += door.close()
        if not as_json:  # a search takes its time: what is known is said before it
            terminal.show(common.console(), data.to_dict(network, verdict))
        reason = None if wanted is None else _diagnosed(network, door, verdict, wanted, diagnosis_time)
        if reason is not None and not reason.explanations and verdict.first is not None:
            reason.go_on = explain_command(network, verdict.first, model, images, vectors, seed, root, resize)
        if not as_json and reason is not None:
            terminal.show_diagnosis(common.console(), reason.to_dict())
        late = door.close()
        verdict.findings += late
    os.chdir(here)
    _report(network, verdict, reason, late, junit_file, html_file, as_json)
    ctx.exit(verdict.status)


def _of_other_images(door: Door, verdict: Verdict) -> bool:
    """Whether files hold more or fewer cases than the images that were made here; adds a finding that says so."""
    verdict.findings += door.close()
    if not any(finding.kind == "count" for finding in verdict.findings):
        return False
    message = f"the results are compared with {verdict.images} images that were made for lack of others: did you mean "
    verdict.findings.insert(0, Finding("count", message + "--vectors FOLDER, or IMAGES?"))
    return True


def _diagnosed(network: api.Network, door: Door, verdict: Verdict, sample: Sample, seconds: float) -> Diagnosis:
    goes_on = all(finding.kind != "hung" for finding in verdict.findings)
    asks = door.ask if door.again and goes_on else None
    with common.progress_bar(f"looking for the reason, {seconds:g} s of processor time at most") as advance:
        return diagnose(network, sample, asks, seconds=seconds, progress=advance)


def _report(
    network: api.Network, verdict: Verdict, reason: Diagnosis | None, late: Sequence[Finding], junit_file: Path | None,
    html_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write the reports; say what was not said before: the findings that came last, and where the files are."""
    report = data.to_dict(network, verdict, reason)
    if junit_file is not None:
        atomic.write_bytes(junit_file, junit.to_xml(report))
    if html_file is not None:
        atomic.write_bytes(html_file, html.to_html(report).encode())
    if as_json:
        common.print_json(report)
        return
    for finding in late:
        common.console().print(common.cell(text.finding(finding.to_dict())), soft_wrap=True)
    for written in (junit_file, html_file):
        if written is not None:
            common.console().print(common.cell(f"wrote {written}"))


def _images(
    network: api.Network,
    sources: tuple[str, ...],
    vectors: Path | None,
    count: int,
    seed: int,
    root: Path | None,
    resize: bool,
) -> NDArray[np.uint8]:
    if vectors is not None:
        if sources:
            raise RefdesignError(f"--vectors: found IMAGES ({sources[0]}) beside it, expected one of the two")
        return read_images(vectors, network)
    if sources:
        return common.load_images(sources, root, network.input_shape, resize=resize)[0]
    return made_images(network, count, seed)


@contextmanager
def _door(
    network: api.Network, impl: str | None, pipe: str | None, files: Path | None, mapping: Path | None, binary: bool,
    in_flight: int, time_limit: float, partial: bool,
) -> Iterator[Door]:  # fmt: skip
    given = [name for name, value in (("--impl", impl), ("--pipe", pipe), ("--files", files)) if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise RefdesignError(f"verify: found {found}, expected exactly one of --impl, --pipe and --files")
    if mapping is not None and pipe is not None:
        raise RefdesignError("--map: found --pipe beside it, expected --files or --impl")
    door: Door
    if impl is not None:
        door = _callable(network, impl, mapping, time_limit)
    elif pipe is not None:
        door = PipeDoor(pipe, network, binary=binary, in_flight=in_flight, time_limit=time_limit)
    else:
        door = FilesDoor(files or Path(), network, mapping, partial=partial)
    try:
        yield door
    finally:
        door.close()


def _callable(network: api.Network, impl: str, mapping: Path | None, time_limit: float) -> CallableDoor:
    tables = read_map(mapping, network)
    target = read_model(Path(impl)) if is_model_file(impl) else load_target(impl)
    bound = bind(target, network, lambda found, wanted: adapt(found, wanted, tables))
    if isinstance(bound, Adapted):
        return CallableDoor(bound, network, what=impl, time_limit=time_limit, notes=lambda: bound.notes)
    if mapping is not None:
        raise RefdesignError(
            f"--map: found the callable {impl} beside it, expected --files or a framework's model; "
            "a callable names its outputs itself: conv1.bits, ..."
        )
    return CallableDoor(bound, network, what=impl, time_limit=time_limit)
