"""How long it has been silent since the last reply. Pure; counts samples of received audio at 16 kHz."""

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.notices import Notice, TurnEnded, TurnStarted, VoiceActivity


class Silence:
    """Begins when a reply was heard to its end or cut, ends with the next one; speech in it makes it begin anew."""

    def __init__(self) -> None:
        self._start: int | None = None

    def note(self, notice: Notice, received: int) -> None:
        match notice:
            case TurnEnded():
                self._start = received
            case TurnStarted():
                self._start = None
            case VoiceActivity() if self._start is not None:
                self._start = received
            case _:
                pass

    def over(self, limit_ms: int, received: int) -> tuple[int, int] | None:
        """Where it lies, in milliseconds of received audio, if it has lasted so long; then it is over."""
        if self._start is None or received - self._start < limit_ms * INPUT_RATE // 1000:
            return None
        start, self._start = self._start, None
        return start * 1000 // INPUT_RATE, received * 1000 // INPUT_RATE
