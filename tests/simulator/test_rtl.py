"""The SystemVerilog design against the simulator: every register of every unit in every cycle, and seeded faults."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refdesign import api, datasets
from refdesign.bits import pack_bool
from refdesign.errors import RefdesignError
from simulator.arithmetic import Operands
from simulator.rtl import tools
from simulator.rtl.compare import differences
from simulator.rtl.design import FOLDER, MODULES, registers
from simulator.rtl.faults import seeded_faults
from simulator.rtl.implementation import RtlImplementation
from simulator.rtl.simulation import Bench, Stimulus
from simulator.rtl.speed import VerilatedUnit
from simulator.rtl.synthesis import KERNELS, main, synthesize, unit_network
from simulator.rtl.yosys import play, run
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.stalls import NO_STALLS
from simulator.trace import Tracer
from simulator.units import TRACE_FIELDS
from tests.simulator.pipelines import Pipeline, random_pipeline
from tests.simulator.rtl_bench import Design, running, skip_without

QUICK = (1, 6)
"""A chain of two stages, and one of three with groups, ragged folds and stalls; together under 30 s to build."""
FAULTY = tuple(range(8))
"""Pipelines of which every seeded fault changes at least one."""
MANY = (tuple(range(8, 16)), tuple(range(16, 24)), tuple(range(24, 32)))
"""Twenty-four more pipelines, in three builds."""


@pytest.fixture(scope="module")
def quick() -> Design:
    skip_without("verilator")
    return Design.of(running(QUICK))


@pytest.mark.parametrize("stalls", [True, False])
def test_registers_equal_in_every_cycle(quick: Design, stalls: bool, tmp_path: Path) -> None:
    assert quick.differences(tmp_path, stalls=stalls) == [[], []]


@pytest.mark.parametrize("fault", ["FOLD_ORDER_SWAPPED", "ACCUMULATOR_KEPT_AFTER_STALL", "LINE_FREED_TOO_EARLY"])
def test_a_seeded_fault_is_caught(quick: Design, fault: str, tmp_path: Path) -> None:
    assert any(quick.differences(tmp_path, fault=seeded_faults()[fault]))


def test_the_recording_has_all_fields_of_the_contract(quick: Design) -> None:
    for simulator in quick.simulators:
        for stage in simulator.stages:
            assert tuple(field.name for field in registers(stage)) == TRACE_FIELDS


@pytest.mark.parametrize(("simulator", "program"), [("icarus", "iverilog"), ("verilator", "perl")])
def test_absent_tools_are_named(simulator: str, program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cocotb", reason="without it, it is what is named")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefdesignError, match=f"{simulator}: found no {program} on the path: install {program}"):
        Bench([], simulator)


def test_absent_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RefdesignError, match=r'pyosys is not installed; .* "refdesign\[rtl\]"'):
        run(["stat"], tmp_path, "a run")


def test_the_synthesis_command_names_an_absent_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("REFDESIGN_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["synthesis", "--sizes", "small", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: pyosys is not installed; ")


def test_a_tool_that_fails_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"^listing: ls ended with status") as caught:
        tools.run(["ls", tmp_path / "absent"], tmp_path, "listing")
    assert "\n" not in str(caught.value)


def test_an_interrupted_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFDESIGN_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RefdesignError("interrupted")

    with pytest.raises(RefdesignError, match="interrupted"):
        tools.cached("test", ["inputs"], build)
    assert list((tmp_path / "rtl").iterdir()) == []


@pytest.mark.parametrize("macro", [[], ["-DFAULTS"], ["-DADDER_TREE"], ["-DTRACE"]])
def test_the_design_is_clean_to_verilators_linter(macro: list[str]) -> None:
    skip_without("verilator")
    quiet = ["-Wno-DECLFILENAME", "-Wno-GENUNNAMED", "-Wno-UNUSEDSIGNAL", "-Wno-UNUSEDPARAM", "-Wno-MULTITOP"]
    command = ["verilator", "--lint-only", "-Wall", *quiet, *macro, f"-I{FOLDER}", *(str(file) for file in MODULES)]
    done = subprocess.run(command, env=tools.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def faulty() -> Design:
    skip_without("verilator")
    return Design.of(running(FAULTY))


def test_registers_equal_on_icarus(tmp_path: Path) -> None:
    skip_without("icarus")
    assert Design.of(running(QUICK), "icarus").differences(tmp_path) == [[], []]


def test_registers_equal_in_yosys_without_a_compiler(tmp_path: Path) -> None:
    skip_without("yosys")
    (pipeline,) = running(QUICK[:1])
    tracer = Tracer(Simulator(pipeline.network, pipeline.accelerator), pipeline.images, pipeline.stalls)
    stimulus = Stimulus(pipeline.images, tracer.times.cycles, pipeline.stalls)
    recording = play(tracer.simulator, stimulus, tmp_path)
    assert differences(recording, tracer) == []
    bits = recording.fields[tracer.simulator.stages[0].name]["bits"]
    bits[-1] = 1 - bits[-1]
    assert len(differences(recording, tracer)) == 1


@pytest.mark.slow
def test_the_unit_of_the_speed_benchmark_gives_the_simulators_bits(tmp_path: Path) -> None:
    skip_without("verilator")
    network = unit_network(12, (2, 3, 2))
    simulator = Simulator(network, fit(network, pe=3, simd=6))
    stage, memory, engine = simulator.stages[1], simulator.memories[1], simulator.engine("unit")
    maps = np.random.default_rng(1).random((2, *stage.input_map, 12)) < 0.5
    words = Operands.of(stage, maps).gather(slice(None))[:, 0, :, 0].T
    on_map = np.repeat(np.tile(stage.source >= 0, (2, 1)), stage.input_folds, axis=1)
    sums = engine.accumulate(pack_bool(maps))
    for waves in (False, True):
        timed = VerilatedUnit(stage, waves=waves).run(memory, words.ravel(), on_map.ravel(), tmp_path)
        assert timed.cycles == 2 * stage.cycles
        assert np.array_equal(timed.bits.reshape(-1, 12), engine.decide(sums, sums).reshape(-1, 12))


@pytest.mark.slow
def test_synthesis_counts_thresholds_where_they_are() -> None:
    skip_without("yosys")
    costs = {rule: synthesize("small", rule) for rule in KERNELS}
    plain, dithered = costs["Sign"], costs["DeSign 2D 3x3"]
    assert dithered.threshold_bits == 9 * plain.threshold_bits
    assert all(cost.luts > 0 and cost.ffs > 0 for cost in costs.values())
    assert (dithered.luts, dithered.lut_ram, dithered.brams) != (plain.luts, plain.lut_ram, plain.brams)


@pytest.mark.slow
def test_pipelines_without_a_fault_agree(faulty: Design, tmp_path: Path) -> None:
    assert faulty.differences(tmp_path) == [[] for _ in FAULTY]
    assert faulty.differences(tmp_path, stalls=False) == [[] for _ in FAULTY]


@pytest.mark.slow
@pytest.mark.parametrize("fault", seeded_faults())
def test_every_seeded_fault_is_caught(faulty: Design, fault: str, tmp_path: Path) -> None:
    assert any(faulty.differences(tmp_path, fault=seeded_faults()[fault]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", MANY)
def test_registers_equal_in_many_configurations(seeds: tuple[int, ...], tmp_path: Path) -> None:
    skip_without("verilator")
    design = Design.of(running(seeds), adder_tree=seeds is MANY[0])
    assert design.differences(tmp_path) == [[] for _ in seeds]
    assert design.differences(tmp_path, stalls=False) == [[] for _ in seeds]


@pytest.mark.slow
def test_the_whole_digits_network_agrees_in_every_register(tmp_path: Path) -> None:
    skip_without("verilator")
    network = api.pretrained("digits")
    images, labels = datasets.load("digits", "test")
    pipeline = Pipeline(network, fit(network, pe=16, simd=64, pool="bits"), images[:2], NO_STALLS)
    design = Design.of([pipeline])
    assert design.differences(tmp_path) == [[]]  # the words that leave too, which are the logits' accumulators
    logits = design.simulators[0].outputs(pipeline.images)["logits"]
    assert np.array_equal(logits, network.run(pipeline.images)["logits"])
    assert logits.argmax(axis=1).tolist() == labels[:2].tolist()


@pytest.mark.slow
def test_the_rtl_is_an_implementation_that_can_be_verified() -> None:
    skip_without("verilator")
    pipeline = random_pipeline(1, exact=True, images=3)
    expected = pipeline.network.run(pipeline.images, outputs="all")
    implementation = RtlImplementation(pipeline.network, pipeline.accelerator)
    answer = implementation(pipeline.images)
    assert "logits" in answer
    assert len(answer) == len(pipeline.network.layers)
    for name, values in answer.items():
        assert np.array_equal(values, expected[name]), name
    implementation.fault = seeded_faults()["FLIP_IGNORED"]
    broken = implementation(pipeline.images)
    assert not all(np.array_equal(values, expected[name]) for name, values in broken.items())
