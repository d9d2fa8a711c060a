"""The second door: a program in any language, through its standard input and output (see `protocol`)."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.verify.doors.door import RealStreams
from refdesign.verify.doors.protocol import Event, Protocol, check_command
from refdesign.verify.implementation import Answer, Finding, Images, expected_shape, others

_RESTARTS = 3
_GARBAGE = 50  # lines that cannot be read, after which a program is given up
_STDERR = 400  # characters of it in a finding
_AHEAD = 64  # answers that are read ahead; a program that writes on has to wait
_MOMENT = 0.05  # seconds


class _Process:
    """A running program, with threads that write its input and read its output, so that nobody waits for nobody."""

    def __init__(self, command: list[str], protocol: Protocol) -> None:
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise RefdesignError(f"--pipe {command[0]}: cannot be started: {error.strerror or error}") from error
        self.events: queue.Queue[Event | None] = queue.Queue(_AHEAD)
        self.input: queue.Queue[bytes | None] = queue.Queue()
        self.errors = b""
        self.killed = False
        self.threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._write, lambda: self._read(protocol), self._drain)
        ]
        for thread in self.threads:
            thread.start()
        self.input.put(protocol.header())

    def _write(self) -> None:
        stream = _stream(self.process.stdin)
        with suppress(OSError, ValueError):  # the program is gone: its reader says so
            while (piece := self.input.get()) is not None:
                stream.write(piece)
                stream.flush()
        with suppress(OSError, ValueError):
            stream.close()

    def _read(self, protocol: Protocol) -> None:
        with suppress(OSError, ValueError):
            for event in protocol.events(_stream(self.process.stdout)):
                if self.killed:  # nobody makes room any more
                    return
                self.events.put(event)
        self.events.put(None)

    def _drain(self) -> None:
        stream = _stream(self.process.stderr)
        with suppress(OSError, ValueError):
            while piece := stream.read1(4096):  # type: ignore[attr-defined]
                self.errors = (self.errors + piece)[-_STDERR:]

    def ended(self) -> str:
        """How it ended, once its output has: its status or signal, and the last it wrote to stderr."""
        try:
            status = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "closed its output and goes on"
        self.threads[2].join(timeout=2)
        words = " ".join(self.errors.decode(errors="replace").split())
        said = f", and wrote to stderr: {words}" if words else ""
        if status < 0:
            return f"ended by signal {signal.Signals(-status).name}{said}"
        return f"ended with status {status}{said}"

    def finish(self, seconds: float) -> int | None:
        """Close its input and drop what it still writes; its status, or None where it does not end in this time."""
        self.input.put(None)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._discard()
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=_MOMENT)
        return None

    def _discard(self) -> None:
        """Let a reader go on that waits for room."""
        with suppress(queue.Empty):
            while True:
                self.events.get_nowait()

    def kill(self) -> None:
        """End it, with whatever it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.input.put(None)
        self.killed = True
        self._discard()
        for thread in self.threads:
            thread.join(timeout=2)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.close()


def _changes(first: Answer, second: Answer) -> Iterator[Finding]:
    """Findings for what was answered otherwise when the first cases were asked again."""
    yield from (finding for finding in second.findings if finding not in first.findings)
    for name, again in second.outputs.items():
        if name not in first.outputs or name in first.answered or name in second.answered:
            continue
        before = first.outputs[name][: len(again)]
        changed = others(before, again)
        if changed.any():
            message = f"asked again, {int(changed.sum()):,} of {again.size:,} values are others"
            yield Finding("not repeatable", message, name, int(changed.reshape(len(changed), -1).any(axis=1).argmax()))


def _stream(stream: Any) -> BinaryIO:
    opened: BinaryIO = stream
    return opened


@dataclass
class _Batch:
    """A batch on its way through the pipe."""

    images: Images
    first: int
    waiting: list[int]
    under_way: dict[int, float] = field(default_factory=dict)
    values: dict[str, dict[int, NDArray[Any]]] = field(default_factory=dict)
    refused: set[tuple[str, int]] = field(default_factory=set)  # outputs of cases that came in another size
    findings: list[Finding] = field(default_factory=list)


class PipeDoor:
    """Asks a program through a pipe; a crash or a hang is a finding, and the next case goes to a fresh process.

    Args:
        command: the program and its arguments, split as a shell does, without a shell.
        network: the network that it implements.
        binary: the protocol's binary form.
        in_flight: how many cases are sent ahead.
        time_limit: seconds without any answer after which a program counts as hung.
        repeat: whether the first `in_flight` cases are asked twice, to see whether the answers repeat.
    """

    again = True
    few = 0  # the first cases in flight are asked again anyway

    def __init__(
        self,
        command: str | list[str],
        network: NetworkData,
        *,
        binary: bool = False,
        in_flight: int = 8,
        time_limit: float = 60.0,
        repeat: bool = True,
    ) -> None:
        try:
            self._command = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise RefdesignError(f"--pipe: found {command!r}: {error}") from error
        check_command(self._command)
        self.what = shlex.join(self._command)
        self._network = network
        self._protocol = Protocol(network, binary=binary)
        self._in_flight = in_flight
        self._time_limit = time_limit
        self._repeat = repeat
        self._garbage = 0
        self._process: _Process | None = None
        self._restarts = 0
        self._next = 0

    def ask(self, images: Images) -> Answer:
        """The answers to a batch, several of its cases in flight."""
        answer = self._ask(images)
        if self._repeat and answer.goes_on:
            self._repeat = False
            again = self._ask(images[: self._in_flight])
            return replace(answer, findings=(*answer.findings, *_changes(answer, again)), goes_on=again.goes_on)
        return answer

    def _ask(self, images: Images) -> Answer:
        first, self._next = self._next, self._next + len(images)
        batch = _Batch(images, first, list(range(len(images))))
        goes_on = True
        while batch.waiting or batch.under_way:
            if self._garbage > _GARBAGE:
                goes_on = False
                self._end()
                batch.findings.append(Finding("garbage", f"given up after {_GARBAGE} answers that cannot be used"))
                break
            if self._process is None:
                if self._restarts > _RESTARTS:
                    goes_on = False
                    message = f"given up after {_RESTARTS} restarts; {len(batch.waiting)} cases were not asked"
                    batch.findings.append(Finding("crashed", message))
                    break
                self._process = _Process(self._command, self._protocol)
            self._step(batch, self._process)
        return self._answer(batch, goes_on)

    def _step(self, batch: _Batch, process: _Process) -> None:
        while batch.waiting and len(batch.under_way) < self._in_flight:
            row = batch.waiting.pop(0)
            batch.under_way[row] = time.monotonic()
            process.input.put(self._protocol.case(batch.first + row, batch.images[row]))
        try:
            event = process.events.get(timeout=self._time_limit)
        except queue.Empty:
            oldest = min(batch.under_way)
            message = f"found no answer in {self._time_limit:g} s; the program was ended"
            self._failed(batch, Finding("hung", message, image=oldest), oldest)
            return
        if event is None:
            oldest = min(batch.under_way)
            self._failed(batch, Finding("crashed", process.ended(), image=oldest), oldest)
        elif event.garbage is not None:
            self._unusable(batch, event.garbage)
            if self._protocol.binary:  # no one knows where the next record begins
                self._failed(batch, None, min(batch.under_way))
        else:
            self._take(batch, event)

    def _take(self, batch: _Batch, event: Event) -> None:
        row = -1 if event.case is None else event.case - batch.first
        if row not in batch.under_way:
            self._unusable(batch, f"found an answer to case {event.case}, which is not under way")
        elif event.output is None or event.values is None:
            del batch.under_way[row]
            if not any(row in rows for rows in batch.values.values()):
                batch.findings.append(Finding("missing", "the case was ended without any output", image=row))
        elif row in batch.values.setdefault(event.output, {}) or (event.output, row) in batch.refused:
            self._unusable(batch, f"found a second {event.output} of case {event.case}")
        elif event.values.size != self._protocol.sizes[event.output]:
            batch.refused.add((event.output, row))
            message = f"found {event.values.size} values, expected {self._protocol.sizes[event.output]}"
            batch.findings.append(Finding("shape", message, event.output, row))
        else:
            batch.values[event.output][row] = event.values

    def _unusable(self, batch: _Batch, message: str) -> None:
        self._garbage += 1
        batch.findings.append(Finding("garbage", message))

    def _failed(self, batch: _Batch, finding: Finding | None, blamed: int) -> None:
        """End the process; the other cases that were under way are asked again, of a fresh one."""
        if finding is not None:
            batch.findings.append(finding)
        batch.under_way.pop(blamed)
        for rows in batch.values.values():  # what they were answered in part they are answered anew
            for row in batch.under_way:
                rows.pop(row, None)
        batch.refused = {(name, row) for name, row in batch.refused if row not in batch.under_way}
        batch.waiting = sorted([*batch.under_way, *batch.waiting])
        batch.under_way.clear()
        self._end()
        self._restarts += 1

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._process = None

    def _answer(self, batch: _Batch, goes_on: bool) -> Answer:
        outputs, answered = {}, {}
        for name in self._protocol.outputs:
            rows = batch.values.get(name)
            if not rows:
                continue
            dtype = next(iter(rows.values())).dtype
            array = np.zeros((len(batch.images), *expected_shape(self._network, name)), dtype=dtype)
            for row, values in rows.items():
                array[row] = values.reshape(array.shape[1:])
            outputs[name] = array
            if len(rows) < len(batch.images):
                answered[name] = np.isin(np.arange(len(batch.images)), list(rows))
        return Answer(outputs, tuple(batch.findings), goes_on, answered)

    def ask_layer(self, layer: str, inputs: Images, real: RealStreams | None = None) -> Answer | None:
        """A program cannot be asked layer by layer."""
        return None

    def close(self) -> tuple[Finding, ...]:
        """Close its input and wait for its end, which is to have status 0."""
        process, self._process = self._process, None
        if process is None:
            return ()
        status = process.finish(min(self._time_limit, 10.0))
        found: tuple[Finding, ...] = ()
        if status is None:
            found = (Finding("hung", "it did not end after its input was closed"),)
        elif status:
            found = (Finding("crashed", f"after the last case it {process.ended()}, expected status 0"),)
        process.kill()
        return found
