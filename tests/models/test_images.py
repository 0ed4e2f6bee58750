"""Images as people bring them: depths, transparency, colours, turned ones, extreme shapes, and what is no image."""

import io

import numpy as np
import pytest
from PIL import Image

from vita_duplex.models.tiling import UnusableImage, open_image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shown(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data))


def test_a_scan_of_16_bits_keeps_its_greys() -> None:
    levels = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    seen = shown(encoded(Image.fromarray(levels)))
    np.testing.assert_allclose(seen[..., 0].ravel(), np.arange(256), atol=1)
    dark = np.full((4, 4), 300, np.uint16)
    assert shown(encoded(Image.fromarray(dark))).max() == 1, "dark stays dark"
    floats = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert shown(encoded(Image.fromarray(floats), "TIFF")).max() == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_seen_over_white(mode: str) -> None:
    logo = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (2, 2, 6, 6))
    seen = shown(encoded(logo.convert(mode)))
    assert (seen[0, 0].min(), seen[4, 4].max()) == (255, 0)
    glass = shown(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128))))
    assert glass[0, 0].tolist() == [255, 127, 127]


def test_colours_for_print_and_other_formats_are_seen() -> None:
    red = Image.new("RGB", (16, 16), (200, 20, 20))
    for data in (encoded(red.convert("CMYK"), "JPEG"), encoded(red, "WEBP"), encoded(red, "GIF"), encoded(red, "BMP")):
        r, g, b = shown(data)[8, 8].tolist()
        assert r > 150 > 90 > max(g, b)
    assert shown(encoded(Image.new("1", (4, 4), 1))).min() == 255


def test_a_photograph_is_turned_upright() -> None:
    wide = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(wide, "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1)])
def test_extreme_shapes_are_seen(size: tuple[int, int]) -> None:
    assert open_image(encoded(Image.new("RGB", size))).size == size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic" + b"\0" * 60, "it is HEIC, .* export it as JPEG"),
        (b"<svg xmlns='x'/>", "it is SVG, .* export it as PNG"),
        (b"%PDF-1.7", "it is a PDF"),
        (b"nothing", "cannot be decoded$"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, message: str) -> None:
    with pytest.raises(UnusableImage, match=message):
        open_image(data)
