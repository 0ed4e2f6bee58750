"""Base64 as clients write it. Pure."""

import base64


def unbase64(text: str) -> bytes:
    """Base64 with line breaks, URL-safe, without padding (RFC 4648, sections 3.2 and 5), or as a data URL (RFC 2397).

    Errors: `ValueError`.
    """
    try:
        return base64.b64decode(text, validate=True)  # nearly always; ten times as fast as what follows
    except ValueError:
        head, comma, data = text.partition(",")
        if comma and not head.lstrip().lower().startswith("data:"):
            raise
    compact = "".join((data if comma else text).split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
