"""`refdesign learn`: exercises that mark themselves."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from refdesign.cli import _common as common
from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats import atomic

_BUG = re.compile(r"bug-(\d{1,4})")


@click.command()
@click.argument("action", type=click.Choice(["list", "start", "check"]), default="list")
@click.argument("exercise", required=False)
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--hint", "wanted", count=True, help="Hand out a hint; repeat it for more.")
@common.json_option
@click.pass_context
def learn(ctx: click.Context, action: str, exercise: str | None, path: Path | None, wanted: int, as_json: bool) -> None:
    """Exercises that mark themselves: functions to write, planted bugs to find.

    'list' shows the exercises, 'start' writes what is needed for one (a file, or for a bug a folder), 'check' judges
    it: by the reference, step by step, and a planted bug by the whole conformance suite. PATH is by default
    EXERCISE.py, or for a bug the folder of its name.

    A bug is asked for by number, as bug-17: a right implementation with a few lines changed. Find them, mend them,
    and check. Bugs need the extra 'verify'.

    \b
    Examples:
      refdesign learn
      refdesign learn start fold
      refdesign learn check fold --hint
      refdesign learn start bug-17
      refdesign learn check bug-17

    Exit status of 'check': 0 solved, 1 not yet, 2 a solution that cannot be read.
    """
    if action == "list":
        _list(as_json)
        return
    if exercise is None:
        raise RefdesignError(f"learn {action}: found no exercise, expected one of those that 'refdesign learn' lists")
    found = _BUG.fullmatch(exercise)
    if action == "start":
        _start(exercise, None if found is None else int(found[1]), path)
        return
    report = _check(exercise, path) if found is None else _check_bug(int(found[1]), path or Path(exercise))
    if as_json:
        common.print_json(report | {"hints": report["hints"][:wanted]})
    else:
        _print(common.console(), exercise, report, wanted)
    if not report["solved"]:
        ctx.exit(1)


def _bugs() -> Any:
    if importlib.util.find_spec("hypothesis") is None:
        raise missing_extra("verify", "hypothesis")
    from refdesign.learn import bugs

    return bugs


def _list(as_json: bool) -> None:
    from refdesign.learn.exercises import EXERCISES
    from refdesign.verify.mutants.catalogue import catalogue

    planted = len(catalogue())
    if as_json:
        exercises = [
            {"name": one.name, "title": one.title, "checks": [check.name for check in one.checks]} for one in EXERCISES
        ]
        common.print_json({"exercises": exercises, "bugs": planted})
        return
    console = common.console()
    made = common.table("exercise", "what is to be done", "steps", left=("exercise", "what is to be done"))
    for one in EXERCISES:
        made.add_row(common.cell(one.name), common.cell(one.title), str(len(one.checks)))
    made.add_row(
        common.cell(f"bug-1 ... bug-{planted}"), common.cell("Find the planted bug and mend it"), common.cell("suite")
    )
    console.print(made)
    console.print(common.cell("\nrefdesign learn start fold     writes fold.py, with the task in it"))
    console.print(common.cell("refdesign learn check fold     marks it; --hint for a hint, --hint --hint for two"))


def _start(exercise: str, number: int | None, path: Path | None) -> None:
    if number is None:
        from refdesign.learn.exercises import exercise as named

        chosen = named(exercise)
        target = path or Path(f"{exercise}.py")
        if target.exists():
            raise RefdesignError(f"{target}: found something there, which would be lost; name another file")
        atomic.write_bytes(target, chosen.starter().encode())
        click.echo(f"{target}: the task stands at its top; then: refdesign learn check {exercise} {target}")
        return
    sources = _bugs().sources(number)
    folder = path or Path(exercise)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefdesignError(f"{folder}: found something there, expected no folder or an empty one")
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        atomic.write_bytes(folder / name, source.encode())
    click.echo(
        f"{folder}: an implementation in {', '.join(sorted(sources))}, with one bug. Find it, mend it; "
        f"then: refdesign learn check {exercise} {folder}"
    )


def _check(exercise: str, path: Path | None) -> dict[str, Any]:
    from refdesign.learn import exercises

    chosen = exercises.exercise(exercise)
    marking = exercises.mark(exercises.load(path or Path(f"{exercise}.py"), chosen.function), chosen.checks)
    return {
        "exercise": exercise,
        "solved": marking.failed is None,
        "passed": list(marking.passed),
        "failed": {} if marking.failed is None else {marking.failed: marking.fault},
        "steps": len(chosen.checks),
        "hints": list(marking.hints),
    }


def _check_bug(number: int, folder: Path) -> dict[str, Any]:
    bugs = _bugs()
    bugs.bug(number)
    verdict = bugs.judged(bugs.load(folder))
    return {
        "exercise": f"bug-{number}",
        "solved": not verdict.failed,
        "passed": list(verdict.agreed),
        "failed": verdict.failed,
        "steps": len(verdict.agreed) + len(verdict.failed),
        "hints": list(bugs.hints(number, verdict)) if verdict.failed else [],
    }


def _print(console: Console, exercise: str, report: dict[str, Any], wanted: int) -> None:
    done, steps = len(report["passed"]), report["steps"]
    if report["solved"]:
        console.print(common.cell(f"{exercise}: solved, all {steps} steps agree with the reference"))
        return
    console.print(common.cell(f"{exercise}: {done} of {steps} steps agree"))
    name, fault = next(iter(report["failed"].items()))
    console.print(common.cell(f"first that does not: {name}"), soft_wrap=True)
    console.print(common.cell(f"   {fault}"), soft_wrap=True)
    if len(report["failed"]) > 1:
        others = list(report["failed"])[1:]
        named = ", ".join(others[:5]) + (", ..." if others[5:] else "")
        console.print(common.cell(f"   and {len(others)} more: {named}"))
    for number, hint in enumerate(report["hints"][:wanted], start=1):
        console.print(common.cell(f"hint {number}: {hint}"), soft_wrap=True)
    left = len(report["hints"]) - wanted
    if left > 0:
        console.print(common.cell(f"({left} hint{'s' if left > 1 else ''} left: --hint)"))
