"""A voice activity detector without a model: loud is speech. For tests and `configs/scripted.yaml`."""

import numpy as np

from vita_duplex.engine.ports import Probabilities, VadState, Windows

LOUD = 0.01
"""Root mean square from which a window counts as speech (−40 dBFS)."""


class LevelVad:
    """Speech is what is loud."""

    def start(self) -> VadState:
        return np.zeros(0, np.float32)

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        loud = np.sqrt(np.mean(np.square(windows), axis=1)) >= LOUD
        return loud.astype(np.float32), states
