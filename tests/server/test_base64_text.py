"""Base64 as clients write it."""

import base64

import pytest

from vita_duplex.server.base64_text import unbase64

DATA = bytes(range(256))
STANDARD = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        STANDARD,
        base64.encodebytes(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode(),
        STANDARD.rstrip("="),
        f"data:audio/wav;base64,{STANDARD}",
        f"DATA:audio/wav;codecs=1;base64,\r\n{base64.urlsafe_b64encode(DATA).decode().rstrip('=')}\n",
    ],
)
def test_every_way_of_writing_it_gives_the_bytes(text: str) -> None:
    assert unbase64(text) == DATA


@pytest.mark.parametrize("text", ["A", "AA=A", "A,AAA", "http://x,AAAA", "data:,a", "é", "A" * 100_001])
def test_what_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - binascii has a message for each
        unbase64(text)
