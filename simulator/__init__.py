"""The hardware that runs a folded network: which word meets which, in which cycle, at which width.

This package imports `refdesign`; of `refdesign`, only the command line imports this package.
"""
