"""The calls of a session: what the client is told of them, and what it says of them."""

from collections.abc import Callable

from vita_duplex.engine.calls import Calls, Refused
from vita_duplex.engine.dialogue import Dialogue
from vita_duplex.engine.messages import Call
from vita_duplex.engine.notices import Notice, TurnCalled
from vita_duplex.engine.playback import Playback
from vita_duplex.engine.turn import Turn


class Calling:
    """Keeps the ledger of calls and the dialogue in step."""

    def __init__(
        self, dialogue: Dialogue, playback: Playback, tell: Callable[[Notice], None], now: Callable[[], float]
    ) -> None:
        self.ledger = Calls()
        self._dialogue, self._playback, self._tell, self._now = dialogue, playback, tell, now

    def tell(self) -> None:
        """Tell what the turn that is heard has called, unless it is held: what nobody has asked for is never called."""
        turn = self._playback.turn
        if turn is None or self._playback.held:
            return
        while turn.calls_told < len(turn.request.calls):
            call = turn.request.calls[turn.calls_told]
            turn.calls_told += 1
            if self.ledger.make(call, turn.number, self._now()):
                self._dialogue.add_call(call)
                self._tell(TurnCalled(turn.number, call))

    def accept(self, turn: Turn, *, moves_on: bool) -> None:
        """A turn will be heard. `moves_on`: it answers something that the user has said."""
        self.ledger.answered(turn.outputs)
        if moves_on:
            self.ledger.move_on()

    # ── what the client says ───────────────────────────────────────────────────────────

    def add(self, call: Call) -> bool:
        """Enter a call that the client knows from elsewhere. False: its id is known."""
        known = not self.ledger.make(call, 0, self._now())
        if not known:
            self._dialogue.add_call(call)
        return not known

    def add_output(self, call_id: str, output: str) -> Refused | None:
        """Enter what came of a call; it is answered when the client asks. None: it was taken."""
        taken = self.ledger.take(call_id, self._now())
        if isinstance(taken, str):
            return taken
        self._dialogue.add_output(taken.call, output, late=taken.late)
        return None

    def remove(self, call_id: str) -> None:
        """Forget a call, and what came of it."""
        self.ledger.forget(call_id)
        self._dialogue.remove_call(call_id)
