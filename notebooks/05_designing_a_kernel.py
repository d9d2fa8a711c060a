import marimo

app = marimo.App()


@app.cell
def _():
    import itertools

    import marimo as mo
    import numpy as np

    import refdesign as rd
    from refdesign import design

    return design, itertools, mo, np, rd


@app.cell
def _(mo):
    mo.md(r"""
    # Designing a kernel, and proving it best

    Each cell of a kernel holds one of six levels, 0, 1, 3, 5, 7, 9: the sums of nine products behind a ReLU. Which
    assignment leaves most structure, measured as expected total variation of the binarised output?

    The output at a pixel depends on three sums (the pixel's, its right and its lower neighbour's) and on three
    thresholds. So count once how often every *triple* of sums occurs.
    """)
    return


@app.cell
def _(design, rd):
    photograph = rd.datasets.photograph()[None]
    joint = design.image_joint_distribution(photograph, weights=design.AUTHORS_WEIGHTS)
    table = design.total_variation_table(joint)
    {"table": table.shape, "bytes": table.nbytes}
    return joint, table


@app.cell
def _(mo):
    mo.md(r"""
    216 numbers now hold all there is to know: a kernel's score is a sum of look-ups, one for each cell with its right
    and its lower neighbour (both going round).
    """)
    return


@app.cell
def _(design, itertools, joint, np, table):
    levels = (0, 1, 3, 5, 7, 9)

    def score(kernel):
        index = np.searchsorted(levels, kernel)
        return table[index, np.roll(index, -1, axis=1), np.roll(index, -1, axis=0)].mean()

    kernels = [np.array(cells).reshape(2, 2) for cells in itertools.product(levels, repeat=4)]
    scores = np.array([score(kernel) for kernel in kernels])
    brute = kernels[int(scores.argmax())]
    best, proven = design.optimal_kernel(joint, (2, 2))
    assert np.isclose(scores.max(), proven)
    {"tried": len(kernels), "best by trying all": brute.tolist(), "by proof": best.tolist(), "score": float(proven)}
    return brute, score


@app.cell
def _(mo):
    mo.md(r"""
    1 3 / 3 1 is the best for this photograph under the authors' filter. Under others it is another: averaged over all
    512 filters, 1 3 / 3 7 is the best for it.

    Trying all is fine for 2 × 2. For 4 × 4 there are 6¹⁶ kernels, nearly three million million. But a kernel is a
    cycle of rows, and the score adds up over neighbouring rows: the best is a longest cycle, found by a max-plus matrix
    product, with certainty. No luck, no annealing.
    """)
    return


@app.cell
def _(design, joint, np, score):
    three, three_score = design.optimal_kernel(joint, (3, 3))
    assert np.isclose(score(three), three_score)
    {"3 x 3": three.tolist(), "score": float(three_score), "kernels that it beats": 6**9}
    return


@app.cell
def _(mo):
    mo.md(r"""
    The best 3 × 3 kernel scores *less* than the best 2 × 2 one: chequerboards want an even period.

    **A surprise.** Take the formula at its word, and score the bare bits, 0 or 1, without the threshold as weight:
    """)
    return


@app.cell
def _(design, joint):
    bare, bare_score = design.optimal_kernel(joint, (2, 2), weight="binary")
    information = {
        "bare": design.expected_information(bare, joint),
        "weighted": design.expected_information([[1, 3], [3, 1]], joint),
    }
    assert information["bare"] < 0.1 * information["weighted"]
    {"best for bare bits": bare.tolist(), "score": float(bare_score),
     "bits of information per pixel": {name: round(value, 4) for name, value in information.items()}}  # fmt: skip
    return


@app.cell
def _(mo):
    mo.md(r"""
    0 always fires and 9 almost never: a perfect chequerboard that says nothing about the picture. Maximal variation,
    no information. The released code weights each bit with its threshold, which mends this.

    **Image statistics matter.** The same for independent random pixels instead of a photograph:
    """)
    return


@app.cell
def _(design):
    noise = design.random_joint_distribution(3)
    noise_best, noise_score = design.optimal_kernel(noise, (2, 2))
    assert noise_best.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    {"best for noise": noise_best.tolist(), "score": round(float(noise_score), 5)}
    return


@app.cell
def _(mo):
    mo.md(r"""
    For noise the best dither, averaged over all filters, is none at all: 3 3 / 3 3. Dithering pays where
    neighbours are alike, as in pictures.

    Last, the levels are re-scaled to the batch norm's output: the boundaries of the best quantiser of |N(0, 1)|.
    """)
    return


@app.cell
def _(brute, design):
    scaled = design.rescaled(brute, (0, 1, 3, 5, 7, 9), design.half_wave_levels(6))
    scaled.round(4).tolist()
    return


if __name__ == "__main__":
    app.run()
