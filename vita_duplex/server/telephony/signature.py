"""Whether a request is Twilio's: its `X-Twilio-Signature`. Pure.

Reference: Twilio's documentation, "Validating signatures from Twilio": base64 of HMAC-SHA1, with the account's token as
key, over the address and the sorted form fields; the handshake of a WebSocket has no fields.
"""

import base64
import hashlib
import hmac


def sign(url: str, token: str) -> str:
    """The signature of a request without fields."""
    return base64.b64encode(hmac.new(token.encode(), url.encode(), hashlib.sha1).digest()).decode()


def is_signed(url: str, token: str, signature: str | None) -> bool:
    """Twilio is known to sign the address of a WebSocket with a slash at its end as well as without."""
    given = (signature or "").encode()
    return any(hmac.compare_digest(sign(one, token).encode(), given) for one in (url, f"{url}/"))
