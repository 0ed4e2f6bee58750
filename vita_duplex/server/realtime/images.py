"""Images that come in a message: data URLs of PNG or JPEG."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from vita_duplex.engine.messages import Pixels
from vita_duplex.server.base64_text import unbase64
from vita_duplex.server.errors import ClientError

PIXEL_LIMIT = 16_000_000
"""Width times height, 48 MB unpacked: a small file may hold a huge image."""
SIDE_LIMIT = 2048
"""Larger images are made smaller: 448 pixels per tile, and VITA takes at most 12 tiles."""


def decode_image(url: str, param: str, event_id: str | None) -> Pixels:
    """The image in a data URL, upright. Blocks. Errors: `ClientError`."""
    head = url[:64].partition(",")[0].strip().lower()
    if head not in ("data:image/png;base64", "data:image/jpeg;base64", "data:image/jpg;base64"):
        message = "image_url must be a data URL of a PNG or JPEG in base64; the server fetches nothing."
        raise ClientError("invalid_image", message, param=param, event_id=event_id)
    try:
        with Image.open(BytesIO(unbase64(url)), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > PIXEL_LIMIT:
                message = f"an image may have {PIXEL_LIMIT:,} pixels, this one has {image.width} x {image.height}"
                raise ClientError("invalid_image", message, param=param, event_id=event_id)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as no:  # base64 raises a ValueError
        message = "the image cannot be decoded"
        raise ClientError("invalid_image", message, param=param, event_id=event_id) from no
    upright.thumbnail((SIDE_LIMIT, SIDE_LIMIT))
    return np.asarray(upright)
