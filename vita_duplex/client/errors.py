"""What a client can fail with."""


class TalkError(Exception):
    """The conversation could not be had; the text is one line for the person at the keyboard."""
