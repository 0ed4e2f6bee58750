"""Sound inside the server: 16 kHz mono in, the rate of the voice out."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio in [-1, 1], shape [n]."""


INPUT_RATE = 16_000
"""Sample rate of everything a user says, inside the server."""
