"""The page of the documentation that holds the catalogue and the kill matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from refdesign.verify.conformance.cases import CASES
from refdesign.verify.mutants.catalogue import Mutant
from refdesign.verify.mutants.measure import Kills

HEAD = """# Mutants: what the conformance suite is measured with

Each entry is a wrong implementation: a right one (`refdesign/verify/mutants/subject/`) with a few of its lines changed.
They are data, in `refdesign/verify/mutants/catalogue.toml`, and were written without a look at the diagnosis that is
measured with them. This page is written by a command, in one run{at}:

    refdesign mutants --diagnosis --markdown docs/mutants.md --commit $(git rev-parse --short HEAD)

"""


def markdown(mutants: Sequence[Mutant], found: Sequence[Kills], examples: int, commit: str | None = None) -> str:
    """The page.

    Args:
        mutants: the catalogue.
        found: what notices each of them, in the same order.
        examples: networks a case, times its effort.
        commit: at which it was measured; None: that is not said.

    >>> from refdesign.verify.mutants.catalogue import mutant
    >>> text = markdown([mutant("matches-only")], [Kills("matches-only", {"counting/words": 1}, None)], 10)
    >>> "1 of 1 mutants" in text
    True
    """
    noticed = sum(kills.killed for kills in found)
    effort = sum(case.effort for case in CASES)
    lines = [
        HEAD.format(at="" if commit is None else f" at commit {commit}"),
        f"{noticed} of {len(found)} mutants are noticed, with {examples * effort:,} networks in {len(CASES)} cases "
        f"({examples} a case, times its effort; the suite itself takes 25).",
        "",
        "## By case",
        "",
        "| case | is about | mutants noticed | by it alone |",
        "| --- | --- | ---: | ---: |",
    ]
    notices = Counter(case for kills in found for case in kills.by)
    alone = Counter(next(iter(kills.by)) for kills in found if len(kills.by) == 1)
    lines += [f"| {case.name} | {_cell(case.what)} | {notices[case.name]} | {alone[case.name]} |" for case in CASES]
    lines += ["", "## By mutant", ""]
    classes = dict.fromkeys(entry.bug_class for entry in mutants)
    by_name = {kills.mutant: kills for kills in found}
    for bug_class in classes:
        lines += [f"### {bug_class[0].upper()}{bug_class[1:]}", ""]
        lines += ["| mutant | what is wrong | how it comes about | noticed by |", "| --- | --- | --- | --- |"]
        for entry in mutants:
            if entry.bug_class == bug_class:
                lines.append(_row(entry, by_name[entry.name]))
        lines.append("")
    return "\n".join(lines)


def _row(entry: Mutant, kills: Kills) -> str:
    links = ", ".join(f"[{_short(issue)}]({issue})" for issue in entry.issues)
    origin = f"{_cell(entry.origin)} {links}".strip()
    cases = list(kills.by)
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    by = ", ".join(f"{case} ({kills.by[case]})" for case in cases[:3]) + more if cases else "**nothing**"
    return f"| `{entry.name}` | {_cell(entry.what)} | {origin} | {by} |"


def _short(issue: str) -> str:
    """`https://github.com/owner/name/issues/7` as `name#7`."""
    parts = issue.rstrip("/").split("/")
    return f"{parts[-3]}#{parts[-1]}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
