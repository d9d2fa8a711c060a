import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import refdesign as rd
    from refdesign import design

    return design, mo, np, rd


@app.cell
def _(mo):
    mo.md(r"""
    # From Sign to DeSign

    A binary layer sums nine products of ±1, normalises the sum, and keeps its sign. DeSign subtracts a periodic
    threshold first:

        a = sum x*w            z = y(a) - T[i mod m, j mod n, c mod g]            b = sign(z)

    What does that do to a feature map? We take a photograph that was dithered once already, so that its bits vary, and
    one of the authors' filters.
    """)
    return


@app.cell
def _(design, mo, np, rd):
    picture = rd.datasets.photograph()[:509:3, :509:3]  # (170, 170): no multiple of a period of 3
    bayer = rd.ThresholdKernel([[16.0, 144.0, 48.0, 176.0], [208.0, 80.0, 240.0, 112.0]])
    bits = np.where(picture >= rd.threshold_map(bayer, *picture.shape, 1, rd.PAPER)[:, :, 0], 1, -1).astype(np.int8)
    sums = design.binary_maps(bits[np.newaxis], design.AUTHORS_WEIGHTS)[0]
    shades = ((sums + 9) * 14).astype(np.uint8)
    mo.image(shades, width=336, alt="The sums of every window, as greys")
    return (sums,)


@app.cell
def _(mo):
    mo.md(r"""
    The sums take ten values, −9 to 9. Batch norm scales them to mean 0 and variance 1; the thresholds of a designed
    kernel are in that unit. Sign, a designed 2 × 2 kernel, and its 3D version with four slices:
    """)
    return


@app.cell
def _(design, np, rd, sums):
    accumulators = np.repeat(sums[np.newaxis, :, :, np.newaxis], 4, axis=3).astype(np.int32)
    four = [1.0] * 4
    norm = rd.BatchNorm(four, [0.0] * 4, [float(sums.mean())] * 4, [float(sums.var())] * 4, 1e-5)
    best = [[1, 3], [3, 7]]  # for the photograph, averaged over all 512 filters
    levels = design.half_wave_levels(6)
    flat = rd.ThresholdKernel(design.rescaled(best, (0, 1, 3, 5, 7, 9), levels).tolist())
    deep = rd.ThresholdKernel(design.rescaled(design.shift(best, 4), (0, 1, 3, 5, 7, 9), levels).tolist())

    def layer(kernel):
        thresholds = rd.fold(norm, kernel, fan_in=9, conventions=rd.PAPER, domain=(-9, 9, 2))
        return rd.unpack(thresholds.apply(accumulators))[0]

    maps = {"Sign": layer(None), "DeSign 2D": layer(flat), "DeSign 3D": layer(deep)}
    return (maps,)


@app.cell
def _(maps, mo, np):
    def strip(name, found):
        pictures = [np.where(found[:, :, c] > 0, 255, 0).astype(np.uint8) for c in range(4)]
        return mo.hstack([mo.image(one, width=168, alt=f"{name}, channel {c}") for c, one in enumerate(pictures)])

    mo.vstack([strip(name, found) for name, found in maps.items()])
    return


@app.cell
def _(mo):
    mo.md(r"""
    All four channels carry the same filter. Under Sign and under 2D they are four copies. Under 3D they cut the same
    sums at four heights. So how many different values can the *next* layer see at a pixel, when it adds the four?
    """)
    return


@app.cell
def _(maps, np):
    seen = {name: len(np.unique(found.sum(axis=2))) for name, found in maps.items()}
    assert seen == {"Sign": 2, "DeSign 2D": 2} | {"DeSign 3D": seen["DeSign 3D"]}
    assert seen["DeSign 3D"] > 2
    seen
    return


@app.cell
def _(mo):
    mo.md(r"""
    **Structure, measured.** Total variation is the mean size of the step from a bit to its right and its lower
    neighbour, √(dx² + dy²): a flat map has none. Here it is for the bare bits, 0 or 1, averaged over the channels.

    Kernels are designed for a *weighted* form of it: each bit, 0 or 1, is first multiplied by its threshold's level
    over the highest, 9, so that a bit which fires at a high threshold counts for more.
    """)
    return


@app.cell
def _(maps, np):
    def variation(found):
        planes = (found > 0).astype(float)
        dx, dy = np.diff(planes, axis=1)[:-1], np.diff(planes, axis=0)[:, :-1]
        return float(np.sqrt(dx**2 + dy**2).mean())

    variations = {name: round(variation(found), 4) for name, found in maps.items()}
    assert variations["Sign"] > variations["DeSign 2D"]
    variations
    return


@app.cell
def _(mo):
    mo.md(r"""
    **A surprise.** Plain Sign varies *more* here: its cut lies where most sums are, so its bits flip at almost every
    pixel. Much variation of bare bits is not much information: the kernel of nothing but 0 and 9 flips even more, and
    carries nothing of the picture. That is why the designers' score weights each bit with its threshold, and why
    [the notebook on designing kernels](05_designing_a_kernel.md) looks at information as well.
    """)
    return


if __name__ == "__main__":
    app.run()
