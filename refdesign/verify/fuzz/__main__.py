"""Changes good network files and reads them: a reader may refuse them or give a network, and nothing else.

`python -m refdesign.verify.fuzz --count 1000000 --log fuzz.jsonl` changes bytes anywhere, and what files are made of:
nodes, attributes, shapes and tensors of ONNX, members of archives, places of JSON documents. It reads every file in a
process with limits of memory and time; a chunk of files shares one process. It prints what it tried and ends with
status 1 at the first file that did anything else than to be refused in one line or to be read; that file is kept. With
a log a later call goes on where the last one ended, until `--count` files are in the log; each line says which version
of the readers it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.verify.fuzz.campaign import CHUNK, Finding, Tally, campaign, readers_version
from refdesign.verify.fuzz.targets import TARGETS, good_files


def logged(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a log; none where there is no file yet.

    Raises:
        RefdesignError: a line that is none of a log.
    """
    if path is None or not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{"format": str(line["format"]), "tried": int(line["tried"]), **line} for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise RefdesignError(f"{path}: found no log of this command") from error


def _chunks(wanted: Mapping[str, int], log: Sequence[Mapping[str, Any]], seed: int) -> Iterator[tuple[str, int, int]]:
    """The chunks that are missing, cheap formats first."""
    for kind, count in wanted.items():
        first = max((line["first"] + line["tried"] for line in log if (line["format"], line["seed"]) == (kind, seed)),
                    default=0)  # fmt: skip
        missing = count - sum(line["tried"] for line in log if line["format"] == kind)
        while missing > 0:
            yield kind, first, min(CHUNK, missing)
            first, missing = first + CHUNK, missing - CHUNK


def _total(kind: str, lines: Sequence[Mapping[str, Any]], version: str) -> dict[str, Any]:
    """What a format's lines of a log say together."""
    total = sum((Tally(line["tried"], line["refused"], line["slowest"]) for line in lines), Tally(0, 0, 0.0))
    return {
        "format": kind,
        "files": total.tried,
        "refused": total.refused,
        "read": total.tried - total.refused,
        "slowest_s": total.slowest,
        "peak_mib": max((line["peak_kib"] for line in lines), default=0) >> 10,
        "present_readers": sum(line["tried"] for line in lines if line["readers"] == version),
    }


_TEXT = (
    "{format}: {files} files, {refused} refused, {read} read, slowest {slowest_s:.2f} s, at most {peak_mib} MiB in a "
    "process; {present_readers} of them with the present readers"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refdesign.verify.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="where every chunk is written down, and read to go on")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-finding.bin"), help="where a finding is kept")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    try:
        log = logged(options.log)
    except RefdesignError as error:
        print(error, file=sys.stderr)
        return 2
    whole = sum(TARGETS[kind].share for kind in options.formats)
    wanted = {kind: round(options.count * TARGETS[kind].share / whole) for kind in options.formats}
    version = readers_version()
    for kind in wanted:
        good_files(kind)  # made once, before the processes fork
    try:
        for line in campaign(_chunks(wanted, log, options.seed), options.seed, max(1, options.jobs)):
            log.append(line | {"readers": version})
            if options.log is not None:
                with options.log.open("a") as stream:
                    stream.write(json.dumps(log[-1]) + "\n")
    except Finding as finding:
        options.keep.write_bytes(finding.data)
        print(f"{finding}; the file is kept in {options.keep}", file=sys.stderr)
        return 1
    found = [_total(kind, [line for line in log if line["format"] == kind], version) for kind in wanted]
    print(json.dumps(found) if options.json else "\n".join(_TEXT.format(**total) for total in found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
