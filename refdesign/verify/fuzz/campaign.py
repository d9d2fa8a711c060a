"""Readers run over mutated files, in processes with limits of memory and time."""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from refdesign import formats
from refdesign.errors import RefdesignError
from refdesign.verify.fuzz.targets import TARGETS, case

SECONDS = 60
"""Of processor time, more than which no reader may take for one small file."""

PATIENCE = 600
"""Seconds on the wall clock, after which a reader hangs, however busy the machine is."""

MEMORY = 4 << 30
"""Bytes of address space that a process of readers may take."""

CHUNK = 1000
"""Files that one process reads."""

_STATE = struct.Struct("<qd")


@dataclass(frozen=True)
class Tally:
    """How many files were tried, how many of them refused, and the slowest one's processor time, in seconds."""

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
        Finding: a reader raised something else than a `RefdesignError` that says why, or took too long.

    >>> try_files("native", 20).tried
    20
    """
    refused, slowest = 0, 0.0
    for number in range(first, first + count):
        data = case(kind, seed, number)
        begun = time.process_time()
        if state is not None:
            state[: _STATE.size] = _STATE.pack(number, time.monotonic())
        try:
            TARGETS[kind].read(data)
        except RefdesignError as error:
            refused += 1
            if not str(error):
                raise Finding(kind, seed, number, "a refusal without a reason") from error
        except Exception as error:
            raise Finding(kind, seed, number, f"{type(error).__name__}: {error}") from error
        slowest = max(slowest, time.process_time() - begun)
        if slowest > SECONDS:
            raise Finding(kind, seed, number, f"took {slowest:.0f} s of processor time")
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
                if time.monotonic() - since > PATIENCE:
                    raise Finding(worker.kind, seed, number, f"took more than {PATIENCE} s")
    finally:
        for worker in running:
            worker.process.kill()


def readers_version() -> str:
    """A short hash of the sources in `refdesign.formats`, where the readers are."""
    digest = hashlib.sha256()
    for path in sorted(Path(formats.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
