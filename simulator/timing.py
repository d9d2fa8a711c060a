"""When everything happens, without data: the times of all words and folds of a run, stalls and back-pressure included.

Times do not depend on what the bits are. A word's time follows from few others (the word before it, its input, the
slot behind it), so one pass over the words, not over the cycles, gives every cycle of the run exactly. The source and
each MVTU are generators that go on until a time that they need is not known yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.stage import StageSchedule
from simulator.stalls import NO_STALLS, Stalls

Times = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class StageTimes:
    """The times of one stage over a run of N images; cycles count from 0.

    Attributes:
        stage: its schedule.
        starts: int64 (N*windows,), the cycle of every window's first addition.
        pushes: int64 (N*words_out,), the cycle in which every word left.
        blocked: cycles in which a word could not leave.
        starved: cycles, after the first addition, without an operand.
        total: cycles of the run.
    """

    stage: StageSchedule
    starts: Times
    pushes: Times
    blocked: int
    starved: int
    total: int

    @property
    def causes(self) -> dict[str, int]:
        """Cycles by cause; they add up to `total`.

        compute: an addition; fill: before the first one; starved: no operand; blocked: the word cannot leave; drain:
        after the last addition.
        """
        compute = len(self.starts) // self.stage.windows * self.stage.cycles
        fill = int(self.starts[0])
        return {
            "compute": compute,
            "fill": fill,
            "starved": self.starved,
            "blocked": self.blocked,
            "drain": self.total - compute - fill - self.starved - self.blocked,
        }

    def fold_ends(self) -> Times:
        """The cycle of the last addition of every fold: int64 (N, windows, NF)."""
        stage = self.stage
        shape = (-1, stage.windows, stage.channel_folds)
        steps = np.arange(1, stage.channel_folds + 1, dtype=np.int64) * stage.synapse_folds - 1
        ends = (self.starts[:, np.newaxis] + steps).reshape(shape)
        ends[:, stage.completes] = self.pushes.reshape(len(ends), -1, stage.channel_folds)
        return ends


@dataclass(frozen=True, kw_only=True, eq=False)
class FifoTimes:
    """The times of one FIFO: the cycle in which every word was pushed, and popped; both int64, ascending."""

    depth: int
    pushes: Times
    pops: Times

    def occupancy(self, cycles: int) -> NDArray[np.int64]:
        """Its count at the start of every cycle: int64 (cycles,).

        >>> fifo = FifoTimes(depth=2, pushes=np.array([0, 1]), pops=np.array([2, 3]))
        >>> fifo.occupancy(5)
        array([0, 1, 2, 1, 0])
        """
        change = np.bincount(self.pushes[self.pushes < cycles], minlength=cycles)
        change -= np.bincount(self.pops[self.pops < cycles], minlength=cycles)
        return np.concatenate([[0], np.cumsum(change)[:-1]])


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTimes:
    """The times of a whole run.

    Attributes:
        cycles: until the sink has taken the last word and every stage is done with its last window.
        stages: by layer name.
        fifos: by the layer that a FIFO feeds, then `"output"`.
        finished: int64 (N,), cycles after which the sink had the last word of every image.
    """

    cycles: int
    stages: dict[str, StageTimes]
    fifos: dict[str, FifoTimes]
    finished: Times

    @property
    def latency(self) -> int:
        """Cycles from the start until the first image is done."""
        return int(self.finished[0])

    @property
    def interval(self) -> float:
        """Cycles from image to image in the steady state: over the second half of the images; NaN for one image.

        (The first images find empty buffers; the last ones find nothing behind them.)
        """
        count = len(self.finished)
        if count == 1:
            return float("nan")
        middle = (count - 1) // 2
        return float(self.finished[-1] - self.finished[middle]) / (count - 1 - middle)


class _Flow:
    """A FIFO with what empties it: the times of its words, as far as they are known.

    Args:
        depth: the FIFO's.
        row: words of one row of the line buffer behind it (all words, where a sink stands behind it).
        release: for every row, how many windows must have been read before it can be written.
        wait: for every place of the sink's pattern, the cycles until it takes; [0] for a line buffer.
    """

    def __init__(self, depth: int, row: int, release: list[int], wait: list[int]) -> None:
        self.depth = depth
        self.pushes: list[int] = []
        self.pops: list[int] = []
        self.taken: list[int] = []  # of every window behind it, the cycle in which its last word is taken
        self.last = -1  # the last pop that is known
        self.row_end = 0  # words up to the end of the row that is being written
        self.plain = len(wait) == 1
        self._row = row
        self._release = iter(release)
        self._needed = next(self._release)
        self._wait = wait

    def open_row(self) -> bool:
        """Begin the next row, if it is known when its line is free."""
        if len(self.taken) < self._needed:
            return False
        if self._needed:
            self.last = max(self.last, self.taken[self._needed - 1])
        self.row_end += self._row
        self._needed = next(self._release, 0)
        return True

    def settle(self) -> None:
        """Find the pops of all words whose pushes are known, up to a row that is not free yet."""
        pushes, pops = self.pushes, self.pops
        start, known = len(pops), len(pushes)
        while start < known:
            if start == self.row_end and not self.open_row():
                return
            end = min(known, self.row_end)
            last = self.last
            for pushed in pushes[start:end]:
                last = (pushed if pushed > last else last) + 1
                if not self.plain:
                    last += self._wait[last % len(self._wait)]
                pops.append(last)
            self.last = last
            start = end


class _Run:
    """What is counted of one stage on the way."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.end = 0
        self.blocked = 0
        self.starved = 0


def run_times(
    stages: Sequence[StageSchedule], output_fifo_depth: int, images: int, stalls: Stalls = NO_STALLS
) -> RunTimes:
    """The times of a run of so many images (at least one).

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 32, widths=(64,), dense=(64,))
    >>> times = run_times(schedule(network, fit(network, pe=1, simd=1)), 2, images=1)
    >>> times.cycles, times.stages["conv1"].causes
    (2398, {'compute': 2304, 'fill': 7, 'starved': 0, 'blocked': 0, 'drain': 87})
    """
    words_in = [1, *(stage.channel_folds for stage in stages[:-1])]
    flows = [
        _Flow(stage.config.fifo_depth, stage.input_map[1] * words, _release(stage, images), [0])
        for stage, words in zip(stages, words_in, strict=True)
    ]
    words_out = stages[-1].words_out
    output = _Flow(output_fifo_depth, images * words_out, [0], _next_true(stalls.sink))
    behind = [*flows[1:], output]
    runs = [_Run() for _ in stages]
    height, width = stages[0].input_map
    units: list[Iterator[None]] = [_source(flows[0], images * height * width, stalls)]
    for stage, flow, words, run, following in zip(stages, flows, words_in, runs, behind, strict=True):
        units.append(_mvtu(stage, flow, words, run, following, images))
    while units:
        units = [unit for unit in units if next(unit, _DONE) is not _DONE]
    output.settle()
    for flow in flows:
        flow.settle()
    cycles = max(output.pops[-1], *(run.end for run in runs)) + 1
    names = [*(stage.name for stage in stages), "output"]
    return RunTimes(
        cycles=cycles,
        stages={
            stage.name: StageTimes(
                stage=stage,
                starts=_array(run.starts),
                pushes=_array(following.pushes),
                blocked=run.blocked,
                starved=run.starved,
                total=cycles,
            )
            for stage, run, following in zip(stages, runs, behind, strict=True)
        },
        fifos={
            name: FifoTimes(depth=flow.depth, pushes=_array(flow.pushes), pops=_array(flow.pops))
            for name, flow in zip(names, [*flows, output], strict=True)
        },
        finished=_array(output.pops[words_out - 1 :: words_out]) + 1,
    )


_DONE = object()


def _array(times: list[int]) -> Times:
    return np.array(times, dtype=np.int64)


def _next_true(pattern: NDArray[np.bool_]) -> list[int]:
    """For each place of a repeated pattern, how many places on the next True stands."""
    places = np.flatnonzero(pattern)
    following = np.append(places, places[0] + pattern.size)
    here = np.arange(pattern.size)
    wait: list[int] = (following[np.searchsorted(places, here)] - here).tolist()
    return wait


def _release(stage: StageSchedule, images: int) -> list[int]:
    """For every row of all images, the windows that must be read before it can take its line."""
    height = stage.input_map[0]
    image, row = np.divmod(np.arange(height * images, dtype=np.int64) - stage.config.line_buffer_rows, height)
    done = image * stage.windows + np.searchsorted(stage.oldest_row[:-1], row, side="right")
    release: list[int] = np.maximum(done, 0).tolist()
    return release


def _source(flow: _Flow, words: int, stalls: Stalls) -> Iterator[None]:
    wait = _next_true(stalls.source)
    period, depth, pushes, pops = len(wait), flow.depth, flow.pushes, flow.pops
    last = -1
    for slot in range(-depth, words - depth):
        now = last + 1
        if slot >= 0:
            if len(pops) <= slot:
                flow.settle()
                while len(pops) <= slot:
                    yield
                    flow.settle()
            now = max(now, pops[slot] + 1)
        last = now + wait[now % period]
        pushes.append(last)


def _mvtu(stage: StageSchedule, flow: _Flow, words: int, run: _Run, behind: _Flow, images: int) -> Iterator[None]:
    """From the line buffer through all folds of every window: pushes into the next FIFO."""
    per_image = stage.input_map[0] * stage.input_map[1] * words
    needed: list[int] = (stage.needed * words).tolist()
    completes: list[bool] = stage.completes.tolist()
    folds, cycles = stage.channel_folds, stage.synapse_folds
    last_group = folds - stage.group_folds  # the fold in which the window's last words are taken
    written, taken, starts = flow.pops, flow.taken, run.starts
    pushes, pops, depth, direct = behind.pushes, behind.pops, behind.depth, behind.plain
    last = -1
    for image in range(images):
        for pixels, leaves in zip(needed, completes, strict=True):
            start = last + 1
            if pixels:
                word = image * per_image + pixels - 1
                if len(written) <= word:
                    flow.settle()
                    while len(written) <= word:
                        yield
                        flow.settle()
                if written[word] >= start:
                    if starts:
                        run.starved += written[word] + 1 - start
                    start = written[word] + 1
            starts.append(start)
            if not leaves:
                taken.append(start + (last_group + 1) * cycles - 1)
                last = start + folds * cycles - 1
                continue
            last = start - 1
            slot = len(pushes) - depth
            if direct and len(pops) == slot + depth and (slot + depth < behind.row_end or behind.open_row()):
                # The line buffer behind takes all words of this window as they come: no need to ask for each.
                popped = behind.last
                for _ in range(folds):
                    last += cycles
                    if slot >= 0 and pops[slot] >= last:
                        run.blocked += pops[slot] + 1 - last
                        last = pops[slot] + 1
                    slot += 1
                    pushes.append(last)
                    popped = (last if last > popped else popped) + 1
                    pops.append(popped)
                behind.last = popped
                taken.append(pushes[last_group - folds])
                continue
            for fold in range(folds):
                last += cycles
                if slot >= 0:
                    if len(pops) <= slot:
                        behind.settle()
                        while len(pops) <= slot:
                            yield
                            behind.settle()
                    if pops[slot] >= last:
                        run.blocked += pops[slot] + 1 - last
                        last = pops[slot] + 1
                slot += 1
                pushes.append(last)
                if fold == last_group:
                    taken.append(last)
    run.end = last
