"""Grids of the smallest runs there are."""

ONE_BLOCK = """
name = "tiny"
[common]
width = 0.0625
limit = 128
recipe = { epochs = 1, batch_size = 32 }
[[block]]
name = "first"
kind = "primary"
seeds = { first = 3, count = 2 }
compare = "activation"
[block.axes]
activation = ["sign", "2d"]
"""

TWO_BLOCKS = (
    ONE_BLOCK
    + """
[[block]]
name = "second"
kind = "secondary"
seeds = { first = 3, count = 2 }
compare = "activation"
[block.axes]
activation = ["sign", "3d"]
"recipe.flip" = [false, true]
"""
)
