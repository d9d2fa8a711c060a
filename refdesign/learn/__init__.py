"""Exercises that mark themselves: functions to write, and planted bugs to find.

Everything is judged by the reference and its conformance suite, on one's own machine.
"""
