"""The ledger of one turn: which text was synthesised into which samples, and what of it was heard."""

from dataclasses import dataclass

from vita_duplex.engine.joining import head, joined


@dataclass(slots=True)
class Piece:
    """A stretch of reply text and the samples it became."""

    text: str
    samples: int = 0
    """Its length; while it is being synthesised an estimate, rather too long."""
    sent: int = 0


class Ledger:
    """Counts the samples of one turn in the order they are sent.

    What was heard is what the client says, never more than it was sent. Between its words, and with a client that
    says nothing, the pacing clock goes on from there.
    """

    def __init__(self, spoken: bool = True) -> None:
        """Of a reply that is `spoken` the pieces are said one by one; the others are deltas of one text."""
        self.pieces: list[Piece] = []
        self.spoken = spoken
        self._played = 0  # what the client said last …
        self._lag = 0  # … and how far the pacing clock was ahead of it
        self._end: int | None = None

    @property
    def sent(self) -> int:
        return sum(piece.sent for piece in self.pieces)

    def add(self, text: str | None, samples: int, piece_samples: int) -> None:
        """Enter samples that were sent; `text` begins a new piece, `piece_samples` is its length."""
        if text is not None:
            self.pieces.append(Piece(text))
        piece = self.pieces[-1]
        piece.sent += samples
        piece.samples = max(piece_samples, piece.sent)

    def acknowledge(self, played: int, clock: int) -> None:
        """The client has played `played` samples, the pacing clock says `clock`. Older news change nothing."""
        played = min(played, self.sent)
        if played >= self._played:
            self._played, self._lag = played, clock - played

    def truncate(self, end: int) -> None:
        """The client will play no further than `end` samples."""
        self._end = min(end, self.sent if self._end is None else self._end)

    def heard(self, clock: int) -> int:
        """Samples heard when the pacing clock says `clock`."""
        heard = min(self.sent, max(self._played, clock - self._lag))
        return heard if self._end is None else min(heard, self._end)

    def heard_text(self, heard: int) -> str:
        """The words of which at least half lies within the first `heard` samples of the turn.

        Inside a piece, time is taken to be proportional to the number of characters. A piece without sound
        (its synthesis failed) counts as heard once the one before it was: the client got its text.
        """
        words: list[str] = []
        start = 0
        for piece in self.pieces:
            if heard >= start + piece.samples:
                words.append(piece.text)
            elif heard > start:
                words.append(head(piece.text, (heard - start) / piece.samples))
            start += piece.sent
        return joined(words) if self.spoken else "".join(words)
