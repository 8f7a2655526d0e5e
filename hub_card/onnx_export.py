"""Exports a checkpoint to one .onnx file for ONNX Runtime, from faces to embeddings and expression logits.

The graph is the network in evaluation mode, for any number of faces. Its metadata has the config, the settings of the
image processor and the revision of the weights. `onnx_network.OnnxNetwork` reads the file.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from atomic import replacement
from checkpoints import load_checkpoint
from hub_card.folder import read_json
from image_processing_facelivenet import export_onnx
from modeling_facelivenet import CALIBRATED, FaceLiveNetModel
from onnx_network import InferenceGraph, example_faces, outputs_of

TOLERANCE = 1e-4  # between PyTorch and ONNX Runtime, in float32


def export(model: str | Path, out: Path) -> float:
    """Write the inference graph of a checkpoint (`checkpoints.load_checkpoint`) to `out`, completely or not at all.

    Returns:
        The largest difference between the outputs of PyTorch and ONNX Runtime, on random faces.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: the outputs of the graph differ from those of the network, `model` is a graph, or the name of `out`
            does not end in .onnx.
    """
    with _replacing(out) as graph:
        checkpoint = load_checkpoint(model)
        network = checkpoint.network
        if not isinstance(network, FaceLiveNetModel):
            raise ValueError(f"{model} is an exported graph already")
        faces = example_faces(network.config.image_size)
        graph.write_bytes(export_onnx(InferenceGraph(network).eval(), faces, outputs_of(network.config)))
        difference = largest_difference(network, graph)
        if not difference <= TOLERANCE:
            raise ValueError(f"{model}: the exported graph differs from the network by {difference:.2g}")
        config = read_json(checkpoint.path / "config.json")
        if network.calibrated_threshold is None:  # a user of the graph cannot check to which weights they belong
            config |= dict.fromkeys(CALIBRATED)
        metadata = {
            "config": json.dumps(config),
            "preprocessor": json.dumps(read_json(checkpoint.path / "preprocessor_config.json")),
            "revision": checkpoint.revision,
            "parameters": str(network.num_parameters()),
        }
        _write_metadata(graph, metadata)
    return difference


@contextmanager
def _without_advice():
    """Hide warnings: the quantiser logs advice to the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def quantise(exported: Path, out: Path) -> None:
    """Write a copy of an exported graph with weights in 8 bits (dynamic quantisation).

    Its revision ends in -int8, because its embeddings differ a little.
    """
    with _replacing(out) as graph:
        with _without_advice():
            quantize_dynamic(exported, graph, weight_type=QuantType.QUInt8)
        metadata = {prop.key: prop.value for prop in onnx.load(exported).metadata_props}
        _write_metadata(graph, metadata | {"revision": f"{metadata['revision']}-int8"})


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary file that replaces `out` if no error is raised."""
    if out.suffix != ".onnx":
        raise ValueError(f"{out}: the file's name must end in .onnx")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacement(out, shared=True) as graph:
        yield graph


def _write_metadata(graph: Path, metadata: dict[str, str]) -> None:
    proto = onnx.load(graph)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, graph)


@torch.no_grad()
def largest_difference(network: FaceLiveNetModel, graph: Path) -> float:
    """The largest difference of any output, over 1, 3 and 8 random faces; NaN if either output is NaN."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator, differences = torch.Generator().manual_seed(0), []
    for count in (1, 3, 8):
        side = network.config.image_size
        faces = torch.randn(count, 3, side, side, generator=generator)
        expected = InferenceGraph(network)(faces)
        for name, values in zip(outputs_of(network.config), expected, strict=True):
            [actual] = session.run([name], {"pixel_values": faces.numpy()})
            differences.append(np.abs(actual - values.numpy()).max())
    return float(np.max(differences))  # np.max propagates NaN, the built-in max does not
