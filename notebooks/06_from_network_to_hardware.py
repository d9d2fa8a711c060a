import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import refdesign as rd
    from simulator.run import Simulator
    from simulator.schedule import fit
    from simulator.trace import Tracer
    from simulator.waves import terminal, waves

    return Simulator, Tracer, fit, mo, np, rd, terminal, waves


@app.cell
def _(mo):
    mo.md(r"""
    # From network to hardware

    A trained network is weights as bits and thresholds as integers. An accelerator works them off: PE output channels
    side by side, SIMD input bits per cycle. Here is a small one for the network of handwritten digits.
    """)
    return


@app.cell
def _(Simulator, fit, rd):
    network = rd.pretrained("digits")
    images, labels = rd.datasets.load("digits", "test")
    accelerator = fit(network, pe=8, simd=16)
    machine = Simulator(network, accelerator)
    [f"{one.name}: PE {one.config.pe}, SIMD {one.config.simd}, {one.cycles} cycles" for one in machine.stages]
    return accelerator, images, labels, machine, network


@app.cell
def _(mo):
    mo.md(r"""
    A stage's cycles are windows × channel folds × synapse folds: no simulation is needed to know them. All stages run
    at once, so the slowest one sets the pace. The simulator gives every value that the machine computes; they are
    those of the network, bit for bit.
    """)
    return


@app.cell
def _(images, labels, machine, network, np):
    few = images[:20]
    simulation = machine.run(few)
    reference = network.run(few, outputs="all")
    equal = all(np.array_equal(simulation.outputs[name], reference[name]) for name in simulation.outputs)
    assert equal
    slowest = max(machine.stages, key=lambda stage: stage.cycles)
    {
        "equal": equal,
        "right": int((simulation.outputs["logits"].argmax(axis=1) == labels[:20]).sum()),
        "latency of one image": simulation.times.latency,
        "cycles from image to image": simulation.times.interval,
        "slowest stage": (slowest.name, slowest.cycles),
    }
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## What the dither costs

    The threshold memory has a word for every phase instead of one. Nothing else of the datapath changes; two counters
    say which phase it is.
    """)
    return


@app.cell
def _(Simulator, fit, rd):
    memories = {}
    for name in ("digits-sign", "digits-2d", "digits"):
        plain = rd.pretrained(name)
        one = Simulator(plain, fit(plain, pe=8, simd=16))
        memories[name] = {
            "threshold words": sum(memory.limit.size for memory in one.memories),
            "cycles": sum(stage.cycles for stage in one.stages),
        }
    assert len({entry["cycles"] for entry in memories.values()}) == 1
    memories
    return


@app.cell
def _(mo):
    mo.md(r"""
    Not a cycle more. Now the cycles in which a pixel of the first layer is decided, as on a logic analyser:
    """)
    return


@app.cell
def _(Tracer, images, machine, terminal, waves):
    tracer = Tracer(machine, images[:1])
    last = int(tracer.times.stages["conv1"].fold_ends()[0, 9, 0])
    signals = [
        wave
        for wave in waves(tracer, ["conv1"], last - 8, last + 3)
        if wave.name in ("nf", "sf", "column", "phase_column", "out_valid") or wave.scope[-1] == "pe0"
    ]
    terminal(signals, last - 8)
    return


@app.cell
def _(mo):
    mo.md(r"""
    **A surprise.** Make the accumulators one bit narrower than the largest possible sum needs, and let them wrap. How
    many predictions change?
    """)
    return


@app.cell
def _(Simulator, accelerator, fit, images, machine, network, np):
    full = accelerator.stages[2].accumulator_width
    changed = {}
    for width in range(full, full - 5, -1):
        narrow = fit(network, pe=8, simd=16, overflow="wrap", widths={"accumulator_width": max(width, 13)})
        stages = tuple(
            stage
            if stage.layer != accelerator.stages[2].layer
            else type(stage)(**{**stage.__dict__, "accumulator_width": width})
            for stage in narrow.stages
        )
        tight = type(narrow)(name="tight", stages=stages, output_fifo_depth=narrow.output_fifo_depth)
        logits = Simulator(network, tight).outputs(images[:200])["logits"]
        wanted = machine.outputs(images[:200])["logits"]
        changed[f"{width} bits"] = int((logits.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    assert changed[f"{full} bits"] == 0
    assert np.max(list(changed.values())) > 0
    changed
    return


@app.cell
def _(mo):
    mo.md(r"""
    Sums near the extremes hardly ever come, so a bit or more can go before a prediction changes, and then it goes
    quickly. A test on a few images would have passed. Directed vectors (all bits alike) find it at once: that is why
    the conformance suite has a case called *counting/saturated*.
    """)
    return


if __name__ == "__main__":
    app.run()
