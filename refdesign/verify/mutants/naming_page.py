"""The part of the documentation's page on mutants that says how the diagnosis names them."""

from __future__ import annotations

from collections.abc import Sequence

from refdesign.verify.mutants.catalogue import Mutant
from refdesign.verify.mutants.grounds import GROUNDS
from refdesign.verify.mutants.naming import Naming

_FIRST = 60
"""Mutants of the catalogue's beginning, which a share is stated for by itself."""

HEAD = """## By name

The diagnosis is asked about each of these implementations, on the shipped network and on small ones that have what it
lacks (`refdesign/verify/mutants/grounds.py`). A mutant counts as named first where the first of the changes that the
diagnosis gives is one that the catalogue lists as the same mistake; every change that it gives was run, and agreed with
the mutant bit for bit, on fresh images too. An empty cell: the mutant answers as the reference does on this network.
Seconds are processor time.

"""


def named_first(mutants: Sequence[Mutant], found: Sequence[Naming]) -> list[str]:
    """The mutants that show somewhere, and are named first wherever they show.

    >>> from refdesign.verify.mutants.catalogue import mutant
    >>> wrong = mutant("matches-only")
    >>> named_first([wrong], [Naming(wrong.name, "digits", True, ("x",), first=True)])
    ['matches-only']
    """
    shown = [naming for naming in found if naming.shows]
    missed = {naming.mutant for naming in shown if not naming.first}
    seen = {naming.mutant for naming in shown}
    return [entry.name for entry in mutants if entry.named and entry.name in seen - missed]


def summary(mutants: Sequence[Mutant], found: Sequence[Naming]) -> list[str]:
    """What the table says, in sentences.

    >>> from refdesign.verify.mutants.catalogue import mutant
    >>> wrong = mutant("matches-only")
    >>> summary([wrong], [Naming(wrong.name, "digits", True, ("x",), first=True, seconds=2.0)])[0]
    'the diagnosis can name 1 of 1 mutants, of which 1 show on these networks'
    """
    seen = {naming.mutant for naming in found if naming.shows}
    wanted = [entry for entry in mutants if entry.named]
    shown = [entry for entry in wanted if entry.name in seen]
    first = named_first(mutants, found)
    share = f" ({100 * len(first) / len(shown):.0f} %)" if shown else ""
    lines = [
        f"the diagnosis can name {len(wanted)} of {len(mutants)} mutants, of which {len(shown)} show on these networks",
        f"it names {len(first)} of them first on every network on which they show{share}",
    ]
    if len(mutants) > _FIRST:
        early = [entry for entry in mutants[:_FIRST] if entry.named]
        named = len([entry for entry in early if entry.name in first])
        lines.append(f"of the catalogue's first {_FIRST}, {len(early)} can be named and {named} are")
    shipped = [naming.seconds for naming in found if naming.shows and naming.ground == GROUNDS[0]]
    if shipped:
        most, usually = max(shipped), _median(shipped)
        lines.append(f"on {GROUNDS[0]} a diagnosis takes {most:.1f} s at most, {usually:.1f} s usually")
    return lines


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def outcome(naming: Naming) -> str:
    """What became of a mutant on one network, in a word or two.

    >>> outcome(Naming("m", "digits", True, ("no dither",), first=True, seconds=1.25))
    'first (1.2 s)'
    """
    if not naming.shows:
        return ""
    if naming.first:
        return f"first ({naming.seconds:.1f} s)"
    if naming.listed:
        return f"among {len(naming.found)} ({naming.seconds:.1f} s)"
    what = {"batch": "depends on the batch", "run": "differs from run to run"}.get(naming.depends_on or "", "")
    return f"as {naming.found[0]}" if naming.found else what or f"not ({naming.seconds:.1f} s)"


def naming_markdown(mutants: Sequence[Mutant], found: Sequence[Naming]) -> str:
    """The section.

    >>> from refdesign.verify.mutants.catalogue import mutant
    >>> text = naming_markdown([mutant("matches-only")], [Naming("matches-only", "digits", True, ("x",), first=True)])
    >>> "| `matches-only` | accumulator is p, not 2p - N | first (0.0 s) |" in text
    True
    """
    grounds = [name for name in GROUNDS if any(naming.ground == name for naming in found)]
    by_place = {(naming.mutant, naming.ground): naming for naming in found}
    lines = [HEAD + "\n".join(f"- {line[0].upper()}{line[1:]}." for line in summary(mutants, found)), ""]
    lines += [f"| mutant | should be named | {' | '.join(grounds)} |", f"| --- | --- |{' --- |' * len(grounds)}"]
    for entry in mutants:
        if entry.named:
            cells = [by_place.get((entry.name, name)) for name in grounds]
            said = " | ".join("" if cell is None else _cell(outcome(cell)) for cell in cells)
            lines.append(f"| `{entry.name}` | {_cell('; '.join(entry.named))} | {said} |")
    beyond = [entry for entry in mutants if entry.beyond]
    if beyond:
        lines += ["", "What no change of the reference can be:", "", "| mutant | why |", "| --- | --- |"]
        lines += [f"| `{entry.name}` | {_cell(entry.beyond)} |" for entry in beyond]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
