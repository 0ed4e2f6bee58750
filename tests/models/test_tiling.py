"""Tiling and pixels against numbers recorded from the original VITA 1.0 code, and pictures that nobody should send."""

import io
import json
import struct
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image
from safetensors.numpy import load_file

from tests.support.paths import GOLDEN
from vita_duplex.models.tiling import (
    MAX_PIXELS,
    EmptyImage,
    Grid,
    ImageTooLarge,
    Tiling,
    UnusableImage,
    candidates,
    mirror,
    normalise,
    open_image,
)

GRIDS = json.loads((GOLDEN / "image_grid.json").read_text())
TILES = load_file(GOLDEN / "image_tiles.safetensors")

ONE_GREY_LEVEL = 1 / 255 / 0.224 + 1e-6


def grey_levels_apart(image: Image.Image, recorded: NDArray[np.uint8]) -> int:
    return int(np.abs(np.asarray(image).astype(int) - recorded.astype(int)).max())


@pytest.mark.parametrize("most", [6, 12])
def test_candidates_come_in_the_recorded_order(most: int) -> None:
    assert candidates(1, most) == tuple(Grid(*pair) for pair in GRIDS["candidate_order"][f"max{most}"])


@pytest.mark.parametrize("most", [1, 6, 12])
@pytest.mark.parametrize("row", GRIDS["table"], ids=lambda row: f"{row['width']}x{row['height']}")
def test_grids_and_tokens_are_the_recorded_ones(row: dict[str, int], most: int) -> None:
    tiling, size = Tiling(most, tile=GRIDS["tile"]), (row["width"], row["height"])
    grid = tiling.grid(*size)
    assert {
        "cols": grid.cols,
        "rows": grid.rows,
        "tiles_with_thumbnail": tiling.count(*size),
        "tokens": tiling.tokens(*size),
    } == row[f"max{most}"]


@pytest.mark.parametrize("most", range(1, 41))
def test_equally_near_shapes_never_have_equal_areas(most: int) -> None:
    """So the order among equal areas, an accident of a hash, changes no choice."""
    grids = candidates(1, most)
    ratios = sorted({grid.cols / grid.rows for grid in grids})
    for low, high in pairwise(ratios):
        areas = [{grid.tiles for grid in grids if grid.cols / grid.rows == ratio} for ratio in (low, high)]
        assert not areas[0] & areas[1]


def test_tiles_are_the_recorded_ones_with_the_thumbnail_last() -> None:
    tiles = Tiling(12, tile=56).cut(Image.fromarray(TILES["image"]))
    assert len(tiles) == len(TILES["tiles_uint8"]) == 7
    for tile, recorded in zip(tiles, TILES["tiles_uint8"], strict=True):
        assert grey_levels_apart(tile, recorded) <= 1


def test_pixels_are_the_recorded_ones() -> None:
    pixels = Tiling(12, tile=56).pixels(Image.fromarray(TILES["image"]))
    assert pixels.shape == (7, 3, 56, 56)
    assert np.abs(pixels[0] - TILES["tile0_pixel_values"]).max() <= ONE_GREY_LEVEL
    assert np.abs(pixels[-1] - TILES["thumbnail_pixel_values"]).max() <= ONE_GREY_LEVEL


def test_normalisation_adds_no_error_to_the_recorded_tiles() -> None:
    pixels = normalise([Image.fromarray(tile) for tile in TILES["tiles_uint8"]])
    assert np.abs(pixels[0] - TILES["tile0_pixel_values"]).max() <= 1e-6
    assert np.abs(pixels[-1] - TILES["thumbnail_pixel_values"]).max() <= 1e-6


def test_one_tile_squashes_the_picture() -> None:
    (tile,) = Tiling(1, tile=56).cut(Image.fromarray(TILES["image_single"]))
    assert grey_levels_apart(tile, TILES["single_squashed_uint8"]) <= 1


def test_a_mirrored_picture_swaps_left_and_right() -> None:
    image = Image.fromarray(TILES["image"])
    assert (np.asarray(mirror(image)) == TILES["image"][:, ::-1]).all()


def test_the_most_tokens_of_the_release_settings() -> None:
    assert Tiling(12).most_tokens == 3328
    assert Tiling(1).most_tokens == Tiling(1).tokens_per_tile == 256
    assert Tiling(12, thumbnail=False).most_tokens == 3072
    assert max(Tiling(12).tokens(width, 300) for width in range(1, 4000, 7)) <= 3328


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_becomes_three_channels(mode: str) -> None:
    assert Tiling(6, tile=28).pixels(Image.new(mode, (64, 32))).shape == (3, 3, 28, 28)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_an_empty_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(EmptyImage, match="empty") as caught:
        Tiling(12).cut(Image.new("RGB", size))
    assert (caught.value.width, caught.value.height) == size


def test_two_hundred_megapixels_are_refused() -> None:
    with pytest.raises(ImageTooLarge, match="20000x10000, at most 89 megapixels"):
        Tiling(12).tokens(20_000, 10_000)
    image = Image.new("1", (20_000, 5_000), None)  # 100 megapixels, memory never touched
    with pytest.raises(ImageTooLarge):
        Tiling(12).cut(image)


@pytest.mark.parametrize("size", [(1, 80_000), (80_000, 1)])
def test_a_thread_of_a_picture_is_cheap(size: tuple[int, int]) -> None:
    assert Tiling(12).count(*size) == 13


def png(width: int, height: int) -> bytes:
    """A picture that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_an_encoded_picture_is_opened() -> None:
    image = open_image(encoded(Image.fromarray(TILES["image"]), "PNG"))
    assert (np.asarray(image) == TILES["image"]).all()
    assert open_image(encoded(Image.new("L", (3, 4)), "WEBP")).mode == "RGB"


def test_a_photograph_taken_sideways_is_turned_upright() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn it to the right
    Image.fromarray(TILES["image"]).save(file, "PNG", exif=exif)
    assert (np.asarray(open_image(file.getvalue())) == np.rot90(TILES["image"], -1)).all()


@pytest.mark.parametrize("size", [(20_000, 10_000), (10_000, 9_000), (15_000, 10_000)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(UnusableImage, match="too large"):
        open_image(png(*size))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"no picture at all",
        png(64, 64),
        png(0, 0),
        encoded(Image.fromarray(TILES["image"]), "PNG")[:4000],
        encoded(Image.fromarray(TILES["image"]), "JPEG")[:700],
    ],
    ids=["nothing", "a magic number", "text", "no pixels", "no size", "half a PNG", "half a JPEG"],
)
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(UnusableImage):
        open_image(data)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_tiles": 0}, "max_dynamic_patch must be a whole number from 1 to 40, not 0"),
        ({"max_tiles": 41}, "max_dynamic_patch must be a whole number from 1 to 40, not 41"),
        ({"max_tiles": "6"}, "max_dynamic_patch must be a whole number from 1 to 40, not '6'"),
        ({"max_tiles": 3, "min_tiles": 4}, "between 4 and 3 tiles is no choice"),
        ({"max_tiles": 1, "tile": 450}, "a tile of 450"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tiling(**settings)
