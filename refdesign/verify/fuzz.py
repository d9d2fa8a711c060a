"""Mutated network files: a reader may refuse them or give a network, and nothing else.

`python -m refdesign.verify.fuzz --count 1000000 --log fuzz.jsonl` changes bytes of good files, and what an ONNX file is
made of (nodes, attributes, shapes, tensors), and reads every file in a process of its own with limits of memory and
time; a chunk of files shares one process. It prints what it tried and ends with status 1 at the first file that did
anything else than to be refused in one line or to be read; that file is kept. With a log a later call goes on where the
last one ended, until `--count` files are in the log; each line says which version of the readers it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import multiprocessing
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from refdesign import formats
from refdesign.errors import RefdesignError
from refdesign.verify.fuzz_targets import TARGETS, case, good_files

SECONDS = 60
"""A reader that takes longer for one small file hangs."""

MEMORY = 4 << 30
"""Bytes of address space that a process of readers may take."""

CHUNK = 1000
"""Files that one process reads."""

_STATE = struct.Struct("<qd")


@dataclass(frozen=True)
class Tally:
    """How many files were tried, how many of them refused, and how long the slowest took, in seconds."""

    tried: int
    refused: int
    slowest: float

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.tried + other.tried, self.refused + other.refused, max(self.slowest, other.slowest))


class Finding(Exception):
    """A file on which a reader did something else than to refuse or to read."""

    def __init__(self, kind: str, seed: int, number: int, reason: str) -> None:
        super().__init__(f"{kind}, seed {seed}, file {number}: {reason}")
        self.reason = reason
        self.data = case(kind, seed, number)


def try_files(kind: str, count: int, seed: int = 0, first: int = 0, state: mmap.mmap | None = None) -> Tally:
    """Read so many mutated files of a format in this process.

    Args:
        kind: one of `TARGETS`.
        count, seed, first: which files.
        state: gets the number of the file that is read, and since when.

    Raises:
        Finding: a reader raised something else than a `RefdesignError` of one line, or took too long.

    >>> try_files("native", 20).tried
    20
    """
    refused, slowest = 0, 0.0
    for number in range(first, first + count):
        data = case(kind, seed, number)
        begun = time.monotonic()
        if state is not None:
            state[: _STATE.size] = _STATE.pack(number, begun)
        try:
            TARGETS[kind].read(data)
        except RefdesignError as error:
            refused += 1
            if not str(error) or "\n" in str(error):
                raise Finding(kind, seed, number, f"a refusal of another form: {str(error)!r}") from error
        except Exception as error:
            raise Finding(kind, seed, number, f"{type(error).__name__}: {error}") from error
        slowest = max(slowest, time.monotonic() - begun)
        if slowest > SECONDS:
            raise Finding(kind, seed, number, f"took {slowest:.0f} s")
    return Tally(count, refused, slowest)


@dataclass
class _Worker:
    """A process that reads one chunk."""

    process: Any
    results: Connection
    state: mmap.mmap
    kind: str
    first: int
    count: int


def _read_chunk(results: Connection, state: mmap.mmap, kind: str, count: int, seed: int, first: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        tally = try_files(kind, count, seed, first, state)
        results.send((asdict(tally), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    except Finding as finding:
        results.send((finding.reason, 0))


def _start(kind: str, first: int, count: int, seed: int) -> _Worker:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    state = mmap.mmap(-1, mmap.PAGESIZE)
    state[: _STATE.size] = _STATE.pack(first, time.monotonic())
    process = context.Process(target=_read_chunk, args=(theirs, state, kind, count, seed, first), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, mine, state, kind, first, count)


def _outcome(worker: _Worker, seed: int) -> dict[str, Any]:
    """What a process that ended says, for the log."""
    number, _ = _STATE.unpack(worker.state[: _STATE.size])
    try:
        found, peak = worker.results.recv()
    except EOFError:
        worker.process.join()
        reason = f"the process ended with {worker.process.exitcode}"
        raise Finding(worker.kind, seed, number, reason) from None
    worker.process.join()
    if isinstance(found, str):
        raise Finding(worker.kind, seed, number, found)
    return {"format": worker.kind, "seed": seed, "first": worker.first, **found, "peak_kib": peak}


def campaign(chunks: Iterator[tuple[str, int, int]], seed: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Read chunks of files in processes with limits; yields a line for the log for each.

    Args:
        chunks: format, number of the first file, count.
        seed: of all files.
        jobs: processes at once.

    Raises:
        Finding: as `try_files`, or a process that died or hangs.
    """
    running: list[_Worker] = []
    more = True
    try:
        while running or more:
            while more and len(running) < jobs:
                chunk = next(chunks, None)
                more = chunk is not None
                if chunk is not None:
                    running.append(_start(*chunk, seed))
            ended = wait([worker.results for worker in running], timeout=1)
            for worker in [worker for worker in running if worker.results in ended]:
                running.remove(worker)
                yield _outcome(worker, seed)
            for worker in running:
                number, since = _STATE.unpack(worker.state[: _STATE.size])
                if time.monotonic() - since > SECONDS:
                    raise Finding(worker.kind, seed, number, f"took more than {SECONDS} s")
    finally:
        for worker in running:
            worker.process.kill()


def readers_version() -> str:
    """A short hash of the sources of all readers."""
    digest = hashlib.sha256()
    for path in sorted(Path(formats.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refdesign.verify.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="where every chunk is written down, and read to go on")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-finding.bin"), help="where a finding is kept")
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
    for kind in wanted:
        lines = [line for line in log if line["format"] == kind]
        total = sum((Tally(line["tried"], line["refused"], line["slowest"]) for line in lines), Tally(0, 0, 0.0))
        now = sum(line["tried"] for line in lines if line["readers"] == version)
        print(
            f"{kind}: {total.tried} files, {total.refused} refused, {total.tried - total.refused} read, slowest "
            f"{total.slowest:.2f} s, at most {max(line['peak_kib'] for line in lines) >> 10} MiB in a process; "
            f"{now} of them with the present readers",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
