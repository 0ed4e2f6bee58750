"""The merge and the projector against numbers recorded from the original modules, and from picture to embedding.

The tensors come from running VITA 1.0 at a tiny, randomly initialised size.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.support.paths import GOLDEN
from tests.support.tiny_vita import CASES, Case, weights
from vita_duplex.models.tiling import Tiling
from vita_duplex.models.vision import VisionProjector, merge_patches, pixel_shuffle

RECORDED = load_file(GOLDEN / "vision.safetensors")
SIZES = json.loads((GOLDEN / "vision.json").read_text())
WEIGHTS = {name: tensor.float() for name, tensor in weights().items()}

TOLERANCE = 1e-4
TOWER = "model.vision_tower.vision_tower."
HEADS = 2
EPS = 1e-6


def furthest(found: Tensor, recorded: Tensor) -> float:
    assert found.shape == recorded.shape
    return float((found - recorded).abs().max())


@pytest.fixture
def projector() -> VisionProjector:
    projector = VisionProjector(32, 128)
    names = {"0": "linear_1", "2": "linear_2"}
    prefix = "model.mm_projector."
    projector.load_state_dict(
        {
            f"{names[name[len(prefix)]]}.{name.rsplit('.', 1)[1]}": tensor
            for name, tensor in WEIGHTS.items()
            if name.startswith(prefix)
        }
    )
    return projector.eval()


def test_the_bare_merge_moves_every_number_to_its_place() -> None:
    assert torch.equal(pixel_shuffle(RECORDED["pixel_shuffle_in"]), RECORDED["pixel_shuffle_out"])


def test_a_cell_lists_its_patches_in_reading_order() -> None:
    grid = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    merged = pixel_shuffle(grid)
    assert merged.shape == (2, 2, 3, 12)
    assert torch.equal(merged[1, 1, 2], torch.cat([grid[1, 2, 4], grid[1, 2, 5], grid[1, 3, 4], grid[1, 3, 5]]))


def test_the_class_token_is_dropped_and_the_rest_halved() -> None:
    merged = merge_patches(RECORDED["last_hidden_with_cls"])
    assert merged.shape[1] == SIZES["tokens_per_tile"]
    assert furthest(merged, RECORDED["merged_half_scaled"]) <= 1e-6


def test_the_first_layer_of_the_projector(projector: VisionProjector) -> None:
    with torch.no_grad():
        assert furthest(projector.linear_1(RECORDED["merged_half_scaled"]), RECORDED["mlp_linear1"]) <= TOLERANCE


def test_the_projector_gives_the_recorded_embeddings(projector: VisionProjector) -> None:
    with torch.no_grad():
        assert furthest(projector(RECORDED["last_hidden_with_cls"]), RECORDED["projected"]) <= TOLERANCE
        assert furthest(projector.project(RECORDED["merged_half_scaled"]), RECORDED["projected"]) <= TOLERANCE


def test_a_tile_is_the_same_alone_and_in_a_batch(projector: VisionProjector) -> None:
    hidden = RECORDED["last_hidden_with_cls"]
    with torch.no_grad():
        alone = torch.cat([projector(tile[None]) for tile in hidden])
        assert furthest(alone, projector(hidden)) <= 1e-6
        assert projector(hidden[:0]).shape == (0, 4, 128)


def test_bfloat16_stays_bfloat16_and_near(projector: VisionProjector) -> None:
    with torch.no_grad():
        found = projector.bfloat16()(RECORDED["last_hidden_with_cls"].bfloat16())
    assert found.dtype == torch.bfloat16
    assert furthest(found.float(), RECORDED["projected"]) <= 0.05 * float(RECORDED["projected"].abs().max())


@pytest.mark.parametrize("tokens", [1, 2, 4, 10, 13, 26])
def test_patches_that_form_no_square_of_cells_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match="square"):
        merge_patches(torch.zeros(1, tokens, 32))


def test_the_release_gets_256_tokens_a_tile() -> None:
    assert merge_patches(torch.zeros(1, 1 + 32 * 32, 8)).shape == (1, 256, 32)
    with torch.device("meta"):
        released = VisionProjector(1024, 4096)
    shapes = {name: tuple(tensor.shape) for name, tensor in released.state_dict().items()}
    assert shapes == {
        "linear_1.weight": (4096, 4096),
        "linear_1.bias": (4096,),
        "linear_2.weight": (4096, 4096),
        "linear_2.bias": (4096,),
    }


def embed(pixels: Tensor) -> Tensor:
    """The tower's input: patches, class token, positions; [N, 3, S, S] -> [N, 1 + patches, C]."""
    weight, bias = (WEIGHTS[f"{TOWER}embeddings.patch_embedding.{part}"] for part in ("weight", "bias"))
    patches = F.conv2d(pixels, weight, bias, stride=SIZES["patch"]).flatten(2).transpose(1, 2)
    cls = WEIGHTS[f"{TOWER}embeddings.class_embedding"].expand(len(pixels), -1, -1)
    return torch.cat([cls, patches], dim=1) + WEIGHTS[f"{TOWER}embeddings.position_embedding"]


def layer(x: Tensor, number: int) -> Tensor:
    """One layer of the tower, written down plainly; only the tests use it."""

    def weights(name: str) -> tuple[Tensor, Tensor]:
        place = f"{TOWER}encoder.layers.{number}.{name}"
        return WEIGHTS[f"{place}.weight"], WEIGHTS[f"{place}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *weights(name), EPS)

    qkv = F.linear(norm("norm1", x), *weights("attn.qkv")).unflatten(-1, (3, HEADS, -1))  # [N, T, 3, heads, d]
    attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4)).transpose(1, 2).flatten(2)
    x = x + WEIGHTS[f"{TOWER}encoder.layers.{number}.ls1"] * F.linear(attended, *weights("attn.proj"))
    wide = F.gelu(F.linear(norm("norm2", x), *weights("mlp.fc1")))
    return x + WEIGHTS[f"{TOWER}encoder.layers.{number}.ls2"] * F.linear(wide, *weights("mlp.fc2"))


def test_the_towers_steps_are_the_recorded_ones() -> None:
    x = embed(RECORDED["pixel_values"])
    assert furthest(x, RECORDED["embeddings"]) <= TOLERANCE
    for number in range(2):
        x = layer(x, number)
        assert furthest(x, RECORDED[f"layer{number}"]) <= TOLERANCE
    assert furthest(x, RECORDED["last_hidden_with_cls"]) <= TOLERANCE


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if "image" in case.media()], ids=lambda case: case.name
)
def test_from_pictures_to_the_embeddings_the_language_model_got(case: Case, projector: VisionProjector) -> None:
    tiling = Tiling(case.max_tiles, tile=SIZES["image_size"], patch=SIZES["patch"])
    pixels = torch.cat([torch.from_numpy(tiling.pixels(image)) for image in case.media()["image"]])
    with torch.no_grad():
        found = projector(layer(layer(embed(pixels), 0), 1))
    assert furthest(found, case.tensor("image_embeds")) <= TOLERANCE
