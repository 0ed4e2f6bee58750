"""From a picture to the pixels that the vision tower sees: tiles of one size, and how many there are.

The tiling is InternVL's dynamic one (https://github.com/OpenGVLab/InternVL, `dynamic_preprocess`) as VITA 1.0
uses it in its vLLM demos; the normalisation is ImageNet's. No torch and no torchvision.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

TILE = 448
"""Side of a tile of the released vision tower."""

PATCH = 14
"""Side of a patch; the tower has one position for each."""

MOST_TILES = 40
"""Of one picture; more than three times what the model was trained on, and 10,496 tokens."""

MERGE = 2
"""So many patches across and down become one token of the language model."""

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
"""A quarter of a gigabyte of RGB, where Pillow begins to warn; larger pictures are refused before decoding."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
GAIN = (1 / (255 * np.array(STD))).astype(np.float32)
OFFSET = (np.array(MEAN) / STD).astype(np.float32)
"""A grey level times `GAIN` minus `OFFSET`: brought to 0..1, less the mean, divided by the deviation."""


class UnusableImage(ValueError):
    """The picture cannot be shown to the model; the message is one line for whoever sent it.

    A `ValueError`, because vLLM answers the request that caused one and goes on serving.
    """


class EmptyImage(UnusableImage):
    """A picture without a single pixel."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"the image is empty ({width}x{height})")
        self.width = width
        self.height = height


class ImageTooLarge(UnusableImage):
    """More pixels than one request may make us decode and resize."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"the image is too large: {width}x{height}, at most {MAX_PIXELS / 1e6:.0f} megapixels")
        self.width = width
        self.height = height


def check_size(width: int, height: int) -> None:
    """Errors: `EmptyImage`, `ImageTooLarge`."""
    if width < 1 or height < 1:
        raise EmptyImage(width, height)
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(width, height)


def open_image(encoded: bytes) -> Image.Image:
    """Decode a picture and turn it upright; its size is looked at first, so a bomb costs its header only.

    The original ignores a photograph's orientation tag and shows it to the model as the sensor lay.

    Errors: `UnusableImage`, also for bytes that are no picture or only half of one.
    """
    if not encoded:
        raise UnusableImage("the image is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(encoded))
        check_size(*image.size)
        return rgb(ImageOps.exif_transpose(image))
    except UnusableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise UnusableImage(f"the image is too large: at most {MAX_PIXELS / 1e6:.0f} megapixels") from exc
    except Exception as exc:  # the decoders of Pillow raise OSError, SyntaxError, ValueError, struct.error, EOFError …
        raise UnusableImage(f"the image cannot be decoded{_named(encoded)}") from exc


def rgb(image: Image.Image) -> Image.Image:
    """In RGB: 16 bits a pixel scaled to 8, transparency over white as vLLM shows it. The original drops both, so that
    a scan is all white and black text on a transparent ground is black on black."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(image)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Levels of 16 bits, or of floating point from 0 to 1, in 8 bits."""
    levels = np.nan_to_num(np.asarray(image, np.float32))
    highest = 65_535.0 if levels.max(initial=0) > 255 else 255.0 if levels.max(initial=0) > 1 else 1.0
    if image.mode.startswith("I;16"):
        highest = 65_535.0
    return Image.fromarray(np.clip(levels * (255 / highest), 0, 255).astype(np.uint8)).convert("RGB")


def _named(encoded: bytes) -> str:
    """What an undecodable image is, and what to do with it, as the end of a sentence."""
    if encoded[4:8] == b"ftyp" and encoded[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return (
            ": it is HEIC, as iPhones keep photographs; export it as JPEG, or choose Most Compatible in their settings"
        )
    if encoded.lstrip()[:5].lower() in (b"<svg ", b"<?xml"):
        return ": it is SVG, which is a drawing; export it as PNG"
    if encoded[:4] == b"%PDF":
        return ": it is a PDF; export its page as PNG"
    return ""


@dataclass(frozen=True, slots=True)
class Grid:
    cols: int
    rows: int

    @property
    def tiles(self) -> int:
        return self.cols * self.rows


@cache
def candidates(min_tiles: int, max_tiles: int) -> tuple[Grid, ...]:
    """All grids of so many tiles, in the order in which they are tried: by area.

    Grids of equal area stay in the order in which CPython iterates over a set of int pairs filled in this
    way. That is how the original made its list, and the tests hold it against the recorded order. With 1 as
    the minimum the choice does not hang on it (up to `MOST_TILES`, see the tests): two shapes equally far
    from the picture's never have equal areas.
    """
    pairs = {
        (cols, rows)
        for area in range(min_tiles, max_tiles + 1)
        for cols in range(1, area + 1)
        for rows in range(1, area + 1)
        if min_tiles <= cols * rows <= max_tiles
    }
    return tuple(Grid(*pair) for pair in sorted(pairs, key=lambda pair: pair[0] * pair[1]))


def closest(grids: Sequence[Grid], width: int, height: int, tile: int) -> Grid:
    """The grid whose shape is nearest to the picture's; of equals the larger one if the picture fills it by half."""
    shape = width / height
    best, least = grids[0], float("inf")
    for grid in grids:
        distance = abs(shape - grid.cols / grid.rows)
        fills_half = width * height > 0.5 * tile * tile * grid.tiles
        if distance < least or (distance == least and fills_half):
            best, least = grid, distance
    return best


@dataclass(frozen=True, slots=True)
class Tiling:
    """How pictures are cut. With `max_tiles` 1 a picture is squashed into one tile and its shape is lost."""

    max_tiles: int
    min_tiles: int = 1
    tile: int = TILE
    patch: int = PATCH
    thumbnail: bool = True

    def __post_init__(self) -> None:
        for name, tiles in (("min_dynamic_patch", self.min_tiles), ("max_dynamic_patch", self.max_tiles)):
            if not isinstance(tiles, int) or not 1 <= tiles <= MOST_TILES:  # it may come with a request
                raise ValueError(f"{name} must be a whole number from 1 to {MOST_TILES}, not {tiles!r}")
        if self.min_tiles > self.max_tiles:
            raise ValueError(f"between {self.min_tiles} and {self.max_tiles} tiles is no choice")
        if self.tile % (self.patch * MERGE):
            raise ValueError(f"a tile of {self.tile} is no whole number of {MERGE}x{MERGE} patches of {self.patch}")

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile // self.patch // MERGE) ** 2

    @property
    def most_tokens(self) -> int:
        """Of any picture."""
        return self._with_thumbnail(self.max_tiles) * self.tokens_per_tile

    def grid(self, width: int, height: int) -> Grid:
        """Errors: `EmptyImage`, `ImageTooLarge`."""
        check_size(width, height)
        return closest(candidates(self.min_tiles, self.max_tiles), width, height, self.tile)

    def count(self, width: int, height: int) -> int:
        """Tiles of a picture of this size, the thumbnail included."""
        return self._with_thumbnail(self.grid(width, height).tiles)

    def tokens(self, width: int, height: int) -> int:
        return self.count(width, height) * self.tokens_per_tile

    def cut(self, image: Image.Image) -> list[Image.Image]:
        """The tiles row by row, and the whole picture as a thumbnail after them if there is more than one.

        Errors: `EmptyImage`, `ImageTooLarge`.
        """
        grid = self.grid(*image.size)
        image = rgb(image)
        size = self.tile
        whole = image.resize((size * grid.cols, size * grid.rows), Image.Resampling.BICUBIC)
        tiles = [
            whole.crop((col * size, row * size, (col + 1) * size, (row + 1) * size))
            for row in range(grid.rows)
            for col in range(grid.cols)
        ]
        if self._with_thumbnail(len(tiles)) > len(tiles):
            tiles.append(image.resize((size, size), Image.Resampling.BICUBIC))
        return tiles

    def pixels(self, image: Image.Image) -> NDArray[np.float32]:
        """What the vision tower gets for a picture: [tiles, 3, tile, tile]."""
        return normalise(self.cut(image))

    def _with_thumbnail(self, tiles: int) -> int:
        return tiles + 1 if self.thumbnail and tiles > 1 else tiles


def mirror(image: Image.Image) -> Image.Image:
    """Left and right swapped: a webcam shows its user a mirror image, and the original gave that to the model."""
    return ImageOps.mirror(image)


def normalise(tiles: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Tiles of one size as [tiles, 3, height, width]."""
    levels = [np.asarray(rgb(tile)) for tile in tiles]  # [H, W, 3] each
    pixels = np.empty((len(levels), 3, *levels[0].shape[:2]), dtype=np.float32)
    for grey, values in zip(levels, pixels, strict=True):
        np.multiply(grey.transpose(2, 0, 1), GAIN[:, None, None], out=values)
        values -= OFFSET[:, None, None]
    return pixels
