import marimo

app = marimo.App()


@app.cell
def _():
    from dataclasses import replace

    import marimo as mo
    import numpy as np

    import refdesign as rd
    from refdesign import naive

    return mo, naive, np, rd, replace


@app.cell
def _(mo):
    mo.md(r"""
    # Find the first wrong bit

    Somebody ported the network of handwritten digits to a chip. On the test set it is about as good as the original:
    """)
    return


@app.cell
def _(np, rd, replace):
    network = rd.pretrained("digits")
    images, labels = rd.datasets.load("digits", "test")

    def somebody_s_port():
        layers = []
        for layer in network.layers:
            if layer.name == "conv3":
                layer = replace(layer, kernel=rd.ThresholdKernel(layer.kernel.values.swapaxes(0, 1).copy()))
            layers.append(layer)
        return replace(network, layers=tuple(layers))

    port = somebody_s_port()
    accuracy = {
        name: float((one.run(images)["logits"].argmax(axis=1) == labels).mean())
        for name, one in {"reference": network, "port": port}.items()
    }
    assert abs(accuracy["reference"] - accuracy["port"]) < 0.05
    assert np.ptp(list(accuracy.values())) < 0.05
    {name: f"{value:.1%}" for name, value in accuracy.items()}
    return images, network, port


@app.cell
def _(mo):
    mo.md(r"""
    Is it right? Accuracy cannot say: it moves by more than this from one training to the next. Compare bits instead,
    layer by layer, in the order of execution.
    """)
    return


@app.cell
def _(images, network, np, port):
    few = images[:16]
    ours, theirs = network.run(few, outputs="all"), port.run(few, outputs="all")
    differing = {name: int((ours[name] != theirs[name]).sum()) for name in ours}
    {name: f"{count} of {ours[name].size}" for name, count in differing.items() if name.endswith((".bits", "logits"))}
    return differing, few, ours, theirs


@app.cell
def _(mo):
    mo.md(r"""
    The layers before are equal in every bit, the layers behind differ because their input does. The first one that
    differs is where the mistake is. Which bit is it, in the order image, row, column, channel?
    """)
    return


@app.cell
def _(differing, np, ours, theirs):
    first_output = next(name for name, count in differing.items() if count)
    index = tuple(int(i) for i in np.argwhere(ours[first_output] != theirs[first_output])[0])
    assert first_output == "conv3.bits"
    {"output": first_output, "image": index[0], "row, column, channel": index[1:],
     "ours": int(ours[first_output][index]), "theirs": int(theirs[first_output][index])}  # fmt: skip
    return (index,)


@app.cell
def _(mo):
    mo.md(r"""
    `conv3.bits` but not `conv3.accumulator`: the sums agree, the decision does not. So weights, padding and counting
    are fine. Ask the slow path why this bit is what it is:
    """)
    return


@app.cell
def _(index, naive, network, ours):
    layer = next(one for one in network.layers if one.name == "conv3")
    why = naive.explain(layer, network.conventions, ours["conv2.bits"][index[0]], index[1:])
    {"accumulator": why.pooled, "phase": why.phase, "T": round(why.threshold, 4),
     "fires": f"a {'>=' if why.fold.direction > 0 else '<='} {why.fold.threshold}", "bit": why.bit}  # fmt: skip
    return


@app.cell
def _(mo):
    mo.md(r"""
    A hypothesis must explain *all* differences, and no more. Where do they lie? Count them by phase:
    """)
    return


@app.cell
def _(network, np, ours, theirs):
    wrong = ours["conv3.bits"] != theirs["conv3.bits"]
    m, n, _ = next(one for one in network.layers if one.name == "conv3").kernel.shape
    by_phase = np.array([[int(wrong[:, i::m, j::n].sum()) for j in range(n)] for i in range(m)])
    assert by_phase.diagonal().sum() == 0
    assert by_phase.sum() > 0
    by_phase
    return


@app.cell
def _(mo):
    mo.md(r"""
    None where row and column phase are equal: (0, 0), (1, 1). A swap of rows and columns leaves just those alone. Try
    it: swap the kernel's rows and columns in the reference, and see whether *every* bit is explained.
    """)
    return


@app.cell
def _(few, network, np, rd, replace, theirs):
    swapped = replace(network, layers=tuple(
        replace(one, kernel=rd.ThresholdKernel(one.kernel.values.swapaxes(0, 1).copy())) if one.name == "conv3" else one
        for one in network.layers
    ))  # fmt: skip
    again = swapped.run(few, outputs="all")
    explained = all(np.array_equal(again[name], theirs[name]) for name in theirs)
    assert explained
    {"every output explained": explained}
    return


@app.cell
def _(mo):
    mo.md(r"""
    That is the whole trade: the first difference, the bit's own reasons, a hypothesis that explains all of it.
    `refdesign verify` does it for you, over a long list of such hypotheses, on anything that answers: a Python
    callable, a program behind a pipe, a folder of files from a simulator. Then fresh images must confirm what it
    names.

    To practise on mistakes that you did not make: `refdesign learn start bug-17`.
    """)
    return


if __name__ == "__main__":
    app.run()
