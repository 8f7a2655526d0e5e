"""The network in ONNX Runtime: exported from a checkpoint at its first use, or read from an exported file.

`python -m hub_card onnx` writes such a file. It contains everything that is needed: the graph, the config of the
network, the settings of the image processor, and the revision of the weights. The graphs run on the CPU.
`checkpoints.load_checkpoint` opens the file, and `Authenticator` calls `for_inference`.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from image_processing_facelivenet import FaceLiveNetImageProcessor, OnnxGraph, onnx_graph, onnxruntime
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel


@dataclass(frozen=True)
class OnnxOutput:
    """The outputs for n faces.

    embedding: (n, 1792) float32, of length 1 at most. expression_logits: (n, expressions) float32. cover_logits: (n, 2)
    float32; None if the network has no cover detector.
    """

    embedding: torch.Tensor
    expression_logits: torch.Tensor
    cover_logits: torch.Tensor | None = None


def outputs_of(config: FaceLiveNetConfig) -> tuple[str, ...]:
    """The names of the outputs of a graph."""
    return ("embedding", "expression_logits", *(["cover_logits"] if config.cover_detector else []))


class InferenceGraph(torch.nn.Module):
    """The network with a tuple as output, because the exporter can name the elements of a tuple."""

    def __init__(self, model: FaceLiveNetModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(pixel_values)
        return tuple(output[name] for name in outputs_of(self.model.config))


class GraphNetwork:
    """A graph that is called like `FaceLiveNetModel`. Several threads or processes may use it at the same time."""

    device = torch.device("cpu")

    def __init__(self, graph: OnnxGraph, config: FaceLiveNetConfig | None = None):
        self._graph, self.config = graph, config

    def __call__(self, pixel_values: torch.Tensor) -> OnnxOutput:
        """The outputs for whitened faces (n, 3, side, side), with the side that the graph was exported for."""
        return OnnxOutput(*map(torch.from_numpy, self._graph(pixel_values.float().cpu().numpy())))


def for_inference(model: FaceLiveNetModel, size: int) -> "GraphNetwork | FaceLiveNetModel":
    """A faster copy of the network. Its embeddings and logits differ from those of the network by at most 1e-4.

    The copy runs in ONNX Runtime (`image_processing_facelivenet.onnx_graph`). It runs in PyTorch if the network is on a
    GPU, or if ONNX Runtime cannot run it. Later changes of `model` do not change the copy.

    Args:
        size: side of the input faces in pixels.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    graph = onnx_graph(InferenceGraph(model).eval(), example_faces(size), configuration=model.config.to_json_string())
    return GraphNetwork(graph, model.config) if graph else model


def example_faces(size: int) -> list[torch.Tensor]:
    """Random whitened faces in batches of several sizes, for the export of a graph and for its check."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 3, size, size, generator=generator) for count in (2, 1, 3)]


class OnnxNetwork(GraphNetwork):
    """A network in a file that `python -m hub_card onnx` wrote.

    Attributes:
        config, processor: those of the exported checkpoint. revision: of its weights.

    Raises:
        OSError: the file is damaged, or another program wrote it, or ONNX Runtime is not installed.
    """

    def __init__(self, path: Path):
        if onnxruntime is None:
            raise OSError(f"{path}: an exported graph needs ONNX Runtime: pip install onnxruntime")
        try:
            super().__init__(OnnxGraph(path))
            about = self._graph.session().get_modelmeta().custom_metadata_map
            self.config = FaceLiveNetConfig.from_dict(json.loads(about["config"]))
            self.processor = FaceLiveNetImageProcessor.from_dict(json.loads(about["preprocessor"]))
            self.revision = about["revision"]
            self._parameters = int(about["parameters"])
        except KeyError as error:
            raise OSError(f"{path}: not written by `python -m hub_card onnx`: it has no {error}") from error
        except Exception as error:  # ONNX Runtime, the config and JSON raise many unrelated types
            raise OSError(f"{path}: cannot be loaded: {error}") from error

    @property
    def calibrated_threshold(self) -> float | None:
        """The similarity threshold of the config. The export removed it if it was measured with other weights."""
        return self.config.similarity_threshold

    def num_parameters(self) -> int:
        """Number of trained parameters of the exported network."""
        return self._parameters

    def eval(self) -> "OnnxNetwork":
        """Does nothing, because a graph is always in evaluation mode."""
        return self

    def to(self, device) -> "OnnxNetwork":
        if torch.device(device).type != "cpu":
            raise ValueError(f"an exported graph runs on the CPU, not on {device}")
        return self
