import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import refdesign as rd

    return mo, np, rd


@app.cell
def _(mo):
    mo.md(r"""
    # Folding, and its traps

    Batch norm is a line in the accumulator a, the threshold cuts it, and a is an integer. So the bit is a ≥ t for an
    integer t:
    """)
    return


@app.cell
def _(rd):
    norm = rd.BatchNorm(gamma=[0.8], beta=[0.1], mean=[2.0], variance=[9.0], epsilon=1e-5)
    folded = rd.fold(norm, rd.ThresholdKernel([[0.3, 0.9]]), fan_in=9, conventions=rd.PAPER, domain=(-9, 9, 2))
    folded.table()
    return


@app.cell
def _(mo):
    mo.md(r"""
    Two phases, two integers. Everything else in this notebook is about how this goes wrong.

    ## Trap 1: γ below zero

    Solve γ(a − mean)/σ + β ≥ T for a, and you divide by γ. Plenty of code stops there.
    """)
    return


@app.cell
def _(np, rd):
    def by_division(gamma, beta, mean, variance, threshold):
        return int(np.ceil(mean + (threshold - beta) * np.sqrt(variance) / gamma))

    rising = rd.BatchNorm([1.0], [0.0], [1.5], [4.0], 0.0)
    falling = rd.BatchNorm([-1.0], [0.0], [1.5], [4.0], 0.0)
    rules = {
        name: rd.fold(one, None, fan_in=9, conventions=rd.PAPER, domain=(-9, 9, 1)).rule(0, 0, 0)
        for name, one in {"gamma = 1": rising, "gamma = -1": falling}.items()
    }
    divided = {gamma: by_division(gamma, 0.0, 1.5, 4.0, 0.0) for gamma in (1.0, -1.0)}
    assert rules == {"gamma = 1": "a >= 2", "gamma = -1": "a <= 1"}
    {"right": rules, "by division": {f"gamma = {gamma:g}": f"a >= {t}" for gamma, t in divided.items()}}
    return


@app.cell
def _(mo):
    mo.md(r"""
    With γ = −1 the division says a ≥ 2: exactly the accumulators that must *not* fire. Every bit of the channel is
    inverted. In the network that ships with the project, how many channels are like that?
    """)
    return


@app.cell
def _(np, rd):
    network = rd.pretrained("digits")
    falling_channels = {
        layer.name: f"{int((layer.batch_norm.gamma < 0).sum())} of {layer.batch_norm.gamma.size}"
        for layer in network.layers
        if layer.batch_norm is not None
    }
    directions = np.concatenate([found.direction.ravel() for found in network.thresholds().values()])
    assert not (directions < 0).any()
    {"gamma < 0": falling_channels, "falling, constant": (int((directions < 0).sum()), int((directions == 0).sum()))}
    return


@app.cell
def _(mo):
    mo.md(r"""
    **None.** Here every γ started at 1 and stayed positive. So a fold that forgets the sign passes every test on this
    network, and fails on the first one with a negative γ, or a negative weight scale. "It works on my network" is no
    test of a fold; that is what the conformance suite draws random networks for.

    ## Trap 2: three values of sign(0)

    If an accumulator lies exactly on the boundary, the bit is sign(0). Frameworks have three answers.
    """)
    return


@app.cell
def _(np, rd):
    tie = rd.BatchNorm([1.0], [0.0], [3.0], [4.0], 0.0)
    at = np.array([[[[1]], [[3]], [[5]]]], dtype=np.int32).reshape(1, 3, 1, 1)
    answers = {}
    for zero in (1, -1, 0):
        thresholds = rd.fold(tie, None, fan_in=9, conventions=rd.PAPER.replace(sign_at_zero=zero), domain=(-9, 9, 2))
        answers[zero] = (thresholds.rule(0, 0, 0), rd.unpack(thresholds.apply(at)).ravel().tolist())
    assert [bits for _, bits in answers.values()] == [[-1, 1, 1], [-1, -1, 1], [-1, 0, 1]]
    answers
    return


@app.cell
def _(mo):
    mo.md(r"""
    The third answer does not fit into a bit. The fold knows from the range of accumulators whether a channel *can* tie
    at all, so in most networks the question never arises; where it does, a plane of "not zero" bits travels along.

    ## Trap 3: rounding

    Frameworks compute batch norm in float32, in different orders. Two programs, the same parameters, the same
    accumulators: how many y differ in the last place?
    """)
    return


@app.cell
def _(np, rd):
    random = np.random.default_rng(7)
    channels = 4000
    parameters = [
        random.normal(0, 1, channels),
        random.normal(0, 1, channels),
        random.normal(0, 20, channels),
        random.uniform(50, 400, channels),
    ]
    many = rd.BatchNorm(*(values.astype(np.float32) for values in parameters), 1e-5)
    a = np.repeat(np.arange(-100, 101, dtype=np.int32)[:, np.newaxis], channels, axis=1)
    program = {
        name: rd.dithered_batch_norm(a, many, None, rd.PAPER.replace(arithmetic=name))
        for name in ("torch", "onnxruntime", "real")
    }
    differ = {
        f"{first} and {second}": f"{(program[first] != program[second]).mean():.1%}"
        for first, second in (("torch", "onnxruntime"), ("torch", "real"))
    }
    assert (program["torch"] != program["onnxruntime"]).mean() > 0.1
    differ
    return many, program


@app.cell
def _(mo):
    mo.md(r"""
    A good part of all values. **And yet**, how many *bits* differ? Only those whose y is within a rounding of zero.
    """)
    return


@app.cell
def _(np, program):
    bits_that_differ = {
        f"{first} and {second}": int((np.sign(program[first]) != np.sign(program[second])).sum())
        for first, second in (("torch", "onnxruntime"), ("torch", "real"))
    }
    {"bits": program["torch"].size} | bits_that_differ
    return


@app.cell
def _(mo):
    mo.md(r"""
    So random tests do not find it. Put the boundary *on* an accumulator, as trained parameters now and then do, and
    look again: β is chosen such that y is as near to zero as it can be at an integer, and each program falls to its own
    side.
    """)
    return


@app.cell
def _(many, np, rd):
    on = np.round(many.mean + 7)
    beta = -many.gamma.astype(np.float64) * (on - many.mean) / np.sqrt(many.variance.astype(np.float64) + 1e-5)
    planted = rd.BatchNorm(many.gamma, beta.astype(np.float32), many.mean, many.variance, 1e-5)
    thresholds_of = {
        name: rd.fold(planted, None, fan_in=200, conventions=rd.PAPER.replace(arithmetic=name)).threshold.ravel()
        for name in ("torch", "onnxruntime", "real")
    }
    apart = {
        f"{first} and {second}": np.abs(thresholds_of[first] - thresholds_of[second])
        for first, second in (("torch", "onnxruntime"), ("torch", "real"))
    }
    counts = {names: int((steps > 0).sum()) for names, steps in apart.items()}
    assert counts["torch and onnxruntime"] > 100
    most = max(int(steps.max()) for steps in apart.values())
    assert most == 1
    {"channels": planted.channels, "thresholds that differ": counts, "by at most": most}
    return


@app.cell
def _(mo):
    mo.md(r"""
    A good part of the channels folds to another integer, and always to the neighbouring one: all bits agree but those
    of the one accumulator that lies on the boundary. None of the three is "wrong"; but a chip that was folded under one
    and is compared with another differs there, and nobody finds a bug. Hence: name the arithmetic, and fold by asking
    *that* program.

    ## Trap 4: the phase behind a max pool

    A max pool stands between the accumulator and the batch norm, so the dither's i and j count *pooled* pixels
    ([What is computed, exactly, section 1](../method.md#1-the-method)). Hardware that thresholds first, and pools bits
    with OR, must use the phase of floor(row/2), floor(column/2). Three ways, the same accumulators:
    """)
    return


@app.cell
def _(np, rd):
    cells = np.array([[0.3, 0.9], [1.2, 0.6]])
    unit = rd.BatchNorm([1.0], [0.0], [0.0], [9.0], 0.0)
    before_pool = (2 * np.random.default_rng(3).binomial(9, 0.4, (1, 14, 22, 1)) - 9).astype(np.int32)

    def bits_of(kernel, accumulators):
        thresholds = rd.fold(unit, rd.ThresholdKernel(kernel.tolist()), fan_in=9, conventions=rd.PAPER)
        return rd.unpack(thresholds.apply(accumulators)).astype(np.int32)

    pool_first = bits_of(cells, rd.max_pool2d(before_pool, 2))
    pooled_phase = rd.max_pool2d(bits_of(cells.repeat(2, axis=0).repeat(2, axis=1), before_pool), 2)
    wrong_phase = rd.max_pool2d(bits_of(cells, before_pool), 2)
    assert np.array_equal(pool_first, pooled_phase)
    assert not np.array_equal(pool_first, wrong_phase)
    {"bits": pool_first.size, "differ, pooled phase": int((pool_first != pooled_phase).sum()),
     "differ, unpooled phase": int((pool_first != wrong_phase).sum())}  # fmt: skip
    return


@app.cell
def _(mo):
    mo.md(r"""
    With the phase of the unpooled pixel, and a period like the pool's, every pooled bit sees all four thresholds,
    and no dither is left. Where the direction is −1 the pool of bits is an AND.
    """)
    return


if __name__ == "__main__":
    app.run()
