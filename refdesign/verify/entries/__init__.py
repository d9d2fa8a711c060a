"""Wrong entries of one layer's tables, read off its answers: thresholds, weights, the last layer's scale and shift.

A network has too many entries to try each. But where the layers before agree, so that a layer's sums are known, its
bits say between which sums each of its thresholds lies, a sum that is off says which of its products have the wrong
sign, and logits lie on a line whose slope and height are k and c. What is read so is a guess: like every known change
it counts only if it explains all that was answered.
"""

from refdesign.verify.entries.reading import wrong_entries

__all__ = ["wrong_entries"]
