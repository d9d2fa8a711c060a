"""A plain implementation of binary networks, right in every bit, that the mutants are made from.

It does what ports do, in their order: gather windows, pack bits, xor and count, pool, compare with integer thresholds
(found exactly, or by asking the float program), take the sign. Every mutant of the catalogue is a change of a few of
its lines, so it is written for being changed: one decision a line. It shares with the reference the rounding of
float programs and of real sums, and nothing else.
"""
