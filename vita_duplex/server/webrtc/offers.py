"""What can be said of an SDP offer before anything is built for it. Pure.

Reference: RFC 8866 (SDP), RFC 8829 (JSEP): who offers leaves the roles of DTLS open (`actpass`).
"""

import re

from vita_duplex.server.errors import ClientError

OFFER_LIMIT = 65_536
"""Characters; a browser's offer has 2,000 to 6,000."""
ICE_FIELDS = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")


def check_offer(sdp: str) -> None:
    """Errors: `ClientError`."""
    if len(sdp) > OFFER_LIMIT:
        raise _wrong("offer_too_large", f"An offer has at most {OFFER_LIMIT} characters.")
    if not sdp.startswith("v=0"):
        raise _wrong("invalid_offer", "An SDP offer is expected, which begins with v=0.")
    lines = sdp.splitlines()
    kinds = [line[2:].split(" ")[0] for line in lines if line.startswith("m=")]
    if kinds.count("audio") != 1:
        raise _wrong("invalid_offer", f"An offer has one line of audio; this one has {kinds.count('audio')}.")
    if missing := [field for field in ICE_FIELDS if not any(line.startswith(field) for line in lines)]:
        raise _wrong("invalid_offer", f"The offer has no {missing[0][2:-1]}.")
    if any(line in ("a=setup:active", "a=setup:passive") for line in lines):
        raise _wrong("not_an_offer", "This is an answer; the server answers, the client offers.")
    if not re.search(r"^a=rtpmap:\d+ opus/48000/2\s*$", sdp, re.M | re.I):
        raise _wrong("unsupported_codec", "The offer has no Opus at 48 kHz, which every browser has.")
    if "application" not in kinds:
        raise _wrong("invalid_offer", "The offer has no data channel: create oai-events before the offer.")


def prefer_fec(answer: str) -> str:
    """The answer with what we want of the other side's Opus: redundancy within the stream (RFC 7587 section 6.1)."""
    return re.sub(
        r"^(a=rtpmap:(\d+) opus/48000/2)(\r?\n)(?!a=fmtp:\2 )",
        r"\1\3a=fmtp:\2 minptime=10;useinbandfec=1\3",
        answer,
        flags=re.M | re.I,
    )


def _wrong(code: str, message: str) -> ClientError:
    return ClientError(code, message, param="sdp")
