"""Whether the microphone hears what is played: whether both are alike at one and the same delay, time and again. Pure.

The likeness is the generalised cross-correlation with the phase transform (Knapp and Carter 1976): a room and a
loudspeaker change how loud each frequency comes back, hardly how late. By chance two sounds are alike at some delay,
but a second later at another one.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.audio import INPUT_RATE, Samples

RATE = INPUT_RATE // 2
"""At which they are compared: an echo shows in the band of a telephone."""
HEARD, LATEST = RATE, RATE * 7 // 10
"""Samples of the microphone that are compared (1 s), and by how many an echo may be late (700 ms)."""
SIZE = 1 << 14
"""Of the transform; more than both together, so that nothing wraps round."""
BAND = slice(200 * SIZE // RATE, 3400 * SIZE // RATE)
SPREAD = 64
"""Samples (8 ms) over which a room spreads most of an echo."""
ALIKE = 6.0
"""Power at the best delay over the median from which a delay is remembered: that of an echo 18 dB below what was sent
is 25 in the median, and chance reaches 13 in one look of twenty."""
SAME = RATE // 80
"""Samples (12.5 ms) by which the delays of one echo differ at most."""
LOOK = RATE // 2
"""Samples played between two looks; every other look has a second of its own."""
AFTER = 8, 40
"""Looks without an echo after which there is none: while nothing is known yet (4 s of replies), and where there was
one, for the speech of people hides it."""
QUIET, WEIGHT = 1e-3, 4
"""Root mean square (-60 dBFS) of the microphone below which a look without an echo counts as so many: what comes back
so faintly disturbs nobody."""
FAINT = 1e-4
"""What is played below this (-80 dBFS) counts as silence."""


class EchoPresence:
    """Of one session. An echo is taken for granted until the first seconds of replies have shown that there is none."""

    def __init__(self) -> None:
        self.present = True
        self._window = np.hanning(HEARD).astype(np.float32)
        self._heard = np.zeros(HEARD, np.float32)
        self._played = np.zeros(HEARD + LATEST, np.float32)
        self._fresh = 0  # samples played since the latest look
        self._delays: deque[int | None] = deque(maxlen=3)  # of the latest looks; None: nothing was alike
        self._in_vain, self._patience = 0, AFTER[0]

    def note(self, heard: Samples, played: Samples) -> None:
        """Take in what was heard while this was played: both at 16 kHz, as long as each other, of even length."""
        self._heard = _pushed(self._heard, heard)
        self._played = _pushed(self._played, played)
        self._fresh += int(np.count_nonzero(np.abs(played) > FAINT)) // 2

    @property
    def due(self) -> bool:
        return self._fresh >= LOOK

    def look(self) -> None:
        """Decide by the latest second. Takes 1 ms."""
        self._fresh = 0
        self._delays.append(self._delay())
        latest, before = self._delays[-1], self._delays[0]
        if len(self._delays) == 3 and latest is not None and before is not None and abs(latest - before) <= SAME:
            self.present, self._in_vain, self._patience = True, 0, AFTER[1]
            return
        quiet = float(np.sqrt(np.mean(np.square(self._heard)))) < QUIET
        self._in_vain += WEIGHT if quiet else 1
        if self._in_vain >= self._patience:
            self.present, self._in_vain, self._patience = False, 0, AFTER[0]

    def _delay(self) -> int | None:
        """Where in the played samples the heard ones are found best, if anywhere."""
        spectrum = np.conj(np.fft.rfft(self._heard * self._window, SIZE)) * np.fft.rfft(self._played, SIZE)
        phases = np.zeros_like(spectrum)
        phases[BAND] = spectrum[BAND] / (np.abs(spectrum[BAND]) + 1e-12)
        power = np.square(np.fft.irfft(phases)[:LATEST])
        spread = np.convolve(power, np.ones(SPREAD), "same")
        best = int(spread.argmax())
        return best if spread[best] >= ALIKE * float(np.median(spread)) > 0 else None


def _pushed(line: NDArray[np.float32], samples: Samples) -> NDArray[np.float32]:
    """The line with further samples at its end, each the mean of two, and as many less at its beginning."""
    return np.append(line[len(samples) // 2 :], samples.reshape(-1, 2).mean(axis=1, dtype=np.float32))[-len(line) :]
