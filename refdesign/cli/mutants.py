"""`refdesign mutants`: the kill matrix of the conformance suite."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refdesign.cli import _common as common
from refdesign.errors import missing_extra
from refdesign.formats import atomic
from refdesign.verify.mutants.catalogue import Mutant, catalogue, mutant

if TYPE_CHECKING:
    from refdesign.verify.mutants.measure import Kills
    from refdesign.verify.mutants.naming import Naming

EXAMPLES = 10
"""Networks a case, as far as nothing else is asked for: fewer than the suite has."""


@click.command()
@click.argument("names", nargs=-1)
@click.option("--examples", type=click.IntRange(min=1), default=EXAMPLES, show_default=True, metavar="N",
              help="Networks a case, times its effort.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Which networks.")
@click.option("--first", is_flag=True, help="Stop at the first case that notices a mutant.")
@click.option("--workers", type=click.IntRange(min=1), default=lambda: os.cpu_count() or 1, metavar="N",
              show_default="one for each processor", help="Processes side by side.")  # fmt: skip
@click.option("--diagnosis", is_flag=True, help="Measure the diagnosis, too: by which change it names each mutant.")
@click.option("--logits", is_flag=True, help="With --diagnosis: the mutants answer the last layer only.")
@click.option("--list", "listing", is_flag=True, help="List the mutants, and measure nothing.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the catalogue and the matrix.")
@click.option("--commit", metavar="TEXT", help="With --markdown: the commit that the page says was measured.")
@common.json_option
@click.pass_context
def mutants(
    ctx: click.Context,
    names: tuple[str, ...],
    examples: int,
    seed: int,
    first: bool,
    workers: int,
    diagnosis: bool,
    logits: bool,
    listing: bool,
    markdown: Path | None,
    commit: str | None,
    as_json: bool,
) -> None:
    """Measure the conformance suite: which case notices which wrong implementation.

    Every mutant is a right implementation with a few of its lines changed, as they are found wrong in the wild.
    NAMES are some of them; without, all.

    \b
    Examples:
      refdesign mutants --list
      refdesign mutants --first
      refdesign mutants --diagnosis phase-runs-on tail-counts

    Exit status 0: every mutant is noticed; 1: one is not.
    """
    chosen = [mutant(name) for name in names] if names else list(catalogue())
    if listing:
        _list(chosen, as_json)
        return
    if importlib.util.find_spec("hypothesis") is None:
        raise missing_extra("verify", "hypothesis")
    from refdesign.verify.mutants import measure, naming, naming_page, page

    with common.progress_bar("mutants") as advance:
        found = measure.measure(
            chosen, examples_per_case=examples, seed=seed, stop=first, workers=workers, progress=advance
        )
    named: list[Naming] = []
    if diagnosis:
        with common.progress_bar("diagnoses") as advance:
            named = naming.name_all(chosen, logits_only=logits, workers=workers, progress=advance)
    survivors = [kills.mutant for kills in found if not kills.killed]
    if markdown is not None:
        text = page.markdown(chosen, found, examples, commit)
        if diagnosis:
            text += "\n" + naming_page.naming_markdown(chosen, named)
        atomic.write_bytes(markdown, text.encode())
    if as_json:
        diagnosed = {"diagnosis": [entry.to_dict() for entry in named]} if diagnosis else {}
        common.print_json({"mutants": [kills.to_dict() for kills in found], "survivors": survivors, **diagnosed})
    else:
        _print(found, survivors, first)
        if diagnosis:
            _print_named(chosen, named)
    ctx.exit(1 if survivors else 0)


def _list(chosen: list[Mutant], as_json: bool) -> None:
    if as_json:
        common.print_json([_plain(entry) for entry in chosen])
        return
    made = common.table("mutant", "class", "what is wrong", left=("mutant", "class", "what is wrong"))
    for entry in chosen:
        made.add_row(common.cell(entry.name), common.cell(entry.bug_class), common.cell(entry.what))
    common.console().print(made)


def _plain(entry: Mutant) -> dict[str, Any]:
    return {
        "mutant": entry.name, "class": entry.bug_class, "where": entry.where, "what": entry.what,
        "origin": entry.origin, "issues": entry.issues, "named": entry.named, "beyond": entry.beyond,
        "edits": [{"file": edit.file, "old": edit.old, "new": edit.new} for edit in entry.edits],
    }  # fmt: skip


def _print(found: list[Kills], survivors: list[str], first: bool) -> None:
    console = common.console()
    made = common.table("mutant", "noticed by", "first of them", left=("mutant", "first of them"))
    for kills in found:
        cases = list(kills.by)
        made.add_row(
            common.cell(kills.mutant),
            "nothing" if not cases else "at least 1" if first else str(len(cases)),
            common.cell("" if not cases else f"{cases[0]}, network {kills.by[cases[0]]}"),
        )
    console.print(made)
    if not first:
        console.print(_by_case(found))
    noticed = len(found) - len(survivors)
    console.print(common.cell(f"{noticed} of {len(found)} mutants are noticed"))
    if survivors:
        console.print(common.cell(f"not noticed: {', '.join(survivors)}"))


def _print_named(chosen: list[Mutant], named: list[Naming]) -> None:
    from refdesign.verify.mutants import naming_page

    made = common.table("mutant", "network", "named", left=("mutant", "network", "named"))
    for entry in named:
        if entry.shows:
            made.add_row(*(common.cell(text) for text in (entry.mutant, entry.ground, naming_page.outcome(entry))))
    console = common.console()
    console.print(made)
    for line in naming_page.summary(chosen, named):
        console.print(common.cell(line))


def _by_case(found: list[Kills]) -> Any:
    notices = Counter(case for kills in found for case in kills.by)
    alone = Counter(next(iter(kills.by)) for kills in found if len(kills.by) == 1)
    made = common.table("case", "mutants noticed", "by it alone", left=("case",))
    for case, count in notices.most_common():
        made.add_row(common.cell(case), str(count), str(alone[case]))
    return made
