"""When the next samples of a reply may be sent, and which sample is being heard. Pure."""


class Pacer:
    """Keep at most `lead_ms` of audio ahead of the playing position, so that stopping stays in our hands.

    The playing position is reckoned from the clock: the client is taken to play what it has without a gap
    and to wait when it has run out. Counts are samples at `rate` Hz, times seconds.
    """

    def __init__(self, rate: int, lead_ms: int, *, client_pauses: bool) -> None:
        """`client_pauses`: on a hold the client falls silent at once; otherwise it plays what it was sent."""
        self.rate = rate
        self.lead = rate * lead_ms // 1000
        self.sent = 0
        self.underruns = 0
        """Times the client ran out in mid-reply because nothing was there to be sent."""
        self._client_pauses = client_pauses
        self.held = False
        self._was_held = False  # since the last send
        # The client played sample `_anchor_sample` at time `_anchor`; None while its position stands still.
        self._anchor: float | None = None
        self._anchor_sample = 0

    def heard(self, now: float) -> int:
        """Samples played by `now`."""
        if self._anchor is None:
            return self._anchor_sample
        return min(self.sent, self._anchor_sample + int((now - self._anchor) * self.rate))

    def due(self, now: float) -> int:
        """How many samples may be sent now."""
        return 0 if self.held else self.heard(now) + self.lead - self.sent

    def wait(self, samples: int, now: float) -> float | None:
        """Seconds until `samples` may be sent at once; None while held."""
        return None if self.held else max(0.0, (samples - self.due(now)) / self.rate)

    def drained(self, now: float) -> float | None:
        """Seconds until all that was sent is heard; None while held."""
        return None if self.held else (self.sent - self.heard(now)) / self.rate

    def ran_out(self, now: float) -> bool:
        """Whether the client has played all of what it was sent, and it was sent something."""
        return 0 < self.sent == self.heard(now)

    def send(self, samples: int, now: float) -> None:
        """Note that samples go out."""
        self.underruns += self.ran_out(now) and not self._was_held
        self._was_held = False
        if self._anchor is None or self.heard(now) == self.sent:
            self._anchor, self._anchor_sample = now, self.sent  # the first ones, or the client had run out
        self.sent += samples

    def hold(self, now: float) -> None:
        self.held = self._was_held = True
        if self._client_pauses:
            self._anchor_sample, self._anchor = self.heard(now), None

    def resume(self, now: float) -> None:
        if self.held and self._client_pauses and self._anchor_sample < self.sent:
            self._anchor = now
        self.held = False
