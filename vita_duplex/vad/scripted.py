"""A voice activity detector without a model: loud is speech. For tests and `configs/scripted.yaml`."""

import numpy as np

from vita_duplex.engine.seams import Samples

LOUD = 0.01
"""Root mean square from which a window counts as speech (−40 dBFS)."""


class LevelVad:
    """Speech is what is loud."""

    def probability(self, window: Samples) -> float:
        return float(np.sqrt(np.mean(np.square(window))) >= LOUD)
