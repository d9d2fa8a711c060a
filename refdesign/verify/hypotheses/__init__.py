"""What is known to go wrong, as data: the diagnosis runs the reference under each of these changes.

The order is the order of preference where several changes explain the same answers: conventions first, then what
happens often.
"""

from __future__ import annotations

from refdesign.verify.change import Change
from refdesign.verify.hypotheses.batch import BATCH
from refdesign.verify.hypotheses.conventions import CONVENTIONS
from refdesign.verify.hypotheses.dither import DITHER
from refdesign.verify.hypotheses.geometry import GEOMETRY
from refdesign.verify.hypotheses.norms import NORMS
from refdesign.verify.hypotheses.phases import PHASES
from refdesign.verify.hypotheses.pools import POOLS
from refdesign.verify.hypotheses.residual import RESIDUAL
from refdesign.verify.hypotheses.sums import SUMS
from refdesign.verify.hypotheses.thresholds import THRESHOLDS
from refdesign.verify.hypotheses.weights import WEIGHTS
from refdesign.verify.hypotheses.windows import WINDOWS
from refdesign.verify.hypotheses.writing import WRITING

CATALOGUE: tuple[Change, ...] = (
    *CONVENTIONS, *THRESHOLDS, *PHASES, *POOLS, *GEOMETRY, *WINDOWS, *WEIGHTS, *NORMS, *DITHER, *SUMS, *RESIDUAL,
    *BATCH, *WRITING,
)  # fmt: skip
"""Every change that the diagnosis tries."""
