"""Recorded prompts, whose media are placeholders in the text."""

from collections.abc import Iterable, Iterator

from vita_duplex.models.prompts import Audio, Image, Part, Wording


def parse(text: str, images: Iterable[Image], audios: Iterable[Audio], wording: Wording) -> tuple[Part, ...]:
    """Read text with placeholders, taking media in order.

    Errors: `ValueError` when placeholders and media do not match.
    """
    waiting: dict[str, Iterator[Image | Audio]] = {
        wording.image_placeholder: iter(images),
        wording.audio_placeholder: iter(audios),
    }
    parts: list[Part] = []
    while text:
        found = [(text.find(mark), mark) for mark in waiting if mark in text]
        place, mark = min(found, default=(len(text), ""))
        if place:
            parts.append(text[:place])
        if mark:
            medium = next(waiting[mark], None)
            if medium is None:
                raise ValueError(f"more {mark} in the text than media")
            parts.append(medium)
        text = text[place + len(mark) :]
    for mark, left in waiting.items():
        if next(left, None) is not None:
            raise ValueError(f"more media than {mark} in the text")
    return tuple(parts)
