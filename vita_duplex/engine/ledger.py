"""The ledger of one turn: which text was synthesised into which samples, and what of it was heard."""

from dataclasses import dataclass

from vita_duplex.engine.joining import head, joined


@dataclass(slots=True)
class Piece:
    """A stretch of reply text and the samples it became."""

    text: str
    samples: int = 0
    """Synthesised so far."""
    sent: int = 0


class Ledger:
    """Counts the samples of one turn in the order they are sent."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    @property
    def sent(self) -> int:
        return sum(piece.sent for piece in self.pieces)

    def add(self, text: str | None, samples: int, piece_samples: int) -> None:
        """Enter samples that were sent; `text` begins a new piece, `piece_samples` is its length so far."""
        if text is not None:
            self.pieces.append(Piece(text))
        piece = self.pieces[-1]
        piece.sent += samples
        piece.samples = max(piece_samples, piece.sent)

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
        return joined(words)
