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
    # Dithering: one bit, many greys

    A grey pixel has 256 values, a binary network keeps two. Which two is a matter of a threshold. Here is a photograph
    that ships with the project, cut at half of full brightness.
    """)
    return


@app.cell
def _(mo, np, rd):
    photograph = rd.datasets.photograph()[:384, :384]
    one_threshold = np.where(photograph >= 128, 255, 0).astype(np.uint8)
    mo.hstack(
        [
            mo.image(photograph, width=384, alt="The photograph"),
            mo.image(one_threshold, width=384, alt="The same, cut at one threshold"),
        ]
    )
    return one_threshold, photograph


@app.cell
def _(mo):
    mo.md(r"""
    Now let the threshold depend on the place: a tile of thresholds, repeated over the picture. Bayer's tile of 4 × 4
    cells puts sixteen thresholds evenly between black and white, in an order that keeps neighbours far apart.
    `threshold_map` lays a tile over a map, as a layer of the network does.
    """)
    return


@app.cell
def _(np, photograph, rd):
    half = np.array([[0, 2], [3, 1]])
    ranks = np.block([[4 * half, 4 * half + 2], [4 * half + 3, 4 * half + 1]])
    kernel = rd.ThresholdKernel((256 * (ranks + 0.5) / 16).tolist())
    cells = rd.threshold_map(kernel, *photograph.shape, 1, rd.PAPER)[:, :, 0]
    dithered = np.where(photograph >= cells, 255, 0).astype(np.uint8)
    ranks
    return cells, dithered


@app.cell
def _(dithered, mo):
    mo.image(dithered, width=384, alt="The same under a tile of sixteen thresholds")
    return


@app.cell
def _(mo):
    mo.md(r"""
    **An experiment with a surprise.** Both pictures have one bit per pixel. How much of the photograph is in each?
    Look from a distance: average over 8 × 8 pixels, and correlate with the photograph averaged likewise. Then look at
    the sky alone, the upper eighth: how many different averages are there?
    """)
    return


@app.cell
def _(dithered, np, one_threshold, photograph):
    def from_afar(picture):
        return picture.reshape(48, 8, 48, 8).mean(axis=(1, 3))

    def likeness(bits):
        return float(np.corrcoef(from_afar(bits).ravel(), from_afar(photograph).ravel())[0, 1])

    found = {
        name: {"likeness": round(likeness(bits), 3), "averages in the sky": len(np.unique(from_afar(bits)[:6]))}
        for name, bits in {"one threshold": one_threshold, "Bayer 4x4": dithered}.items()
    }
    assert found["one threshold"]["averages in the sky"] == 1
    assert found["Bayer 4x4"]["averages in the sky"] > 1
    assert found["Bayer 4x4"]["likeness"] > found["one threshold"]["likeness"]
    found
    return


@app.cell
def _(mo):
    mo.md(r"""
    The single threshold does not do badly over all, for the coat is dark and the sky is bright. But within the *sky* it
    sees nothing at all. Detail on one side of the cut is what it loses, and what the dither keeps.

    **Shift by one.** Nothing says that the tile must start at the top left. Start it one column later, and see how
    many bits change although the picture looks the same.
    """)
    return


@app.cell
def _(cells, dithered, np, photograph):
    shifted = np.where(photograph >= np.roll(cells, 1, axis=1), 255, 0)
    changed = float((shifted != dithered).mean())
    assert changed > 0.1
    f"{changed:.1%} of the bits change"
    return


@app.cell
def _(mo):
    mo.md(r"""
    A picture for people would not care. The next layer of a network does: where the phase starts is a *convention*
    (`kernel_origin`), and two implementations that differ in it disagree in this many bits while both look right.
    """)
    return


if __name__ == "__main__":
    app.run()
