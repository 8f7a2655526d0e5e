"""An exported inference graph, called like the network: `python -m hub_card onnx` writes it, ONNX Runtime runs it.

The file is self-contained: it holds the network's config, the image processor's settings and the revision of its
weights. It runs on the CPU. `checkpoints.load_checkpoint` opens it; nothing else needs to know the file format.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig

try:
    import onnxruntime
except ImportError:  # only exported graphs need it
    onnxruntime = None

SUFFIX = ".onnx"


@dataclass(frozen=True)
class OnnxOutput:
    """embedding: (n, 1792) float32, of length 1 at most. expression_logits: (n, expressions) float32."""

    embedding: torch.Tensor
    expression_logits: torch.Tensor


class OnnxNetwork:
    """Called like `FaceLiveNetModel`. Safe to share between threads.

    Attributes:
        config, processor: those of the exported checkpoint. revision: of its weights.

    Raises:
        OSError: the file is damaged, or not one that `python -m hub_card onnx` wrote; ONNX Runtime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path):
        if onnxruntime is None:
            raise OSError(f"{path}: an exported graph needs ONNX Runtime: pip install onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            about = self._session.get_modelmeta().custom_metadata_map
            self.config = FaceLiveNetConfig.from_dict(json.loads(about["config"]))
            self.processor = FaceLiveNetImageProcessor.from_dict(json.loads(about["preprocessor"]))
            self.revision = about["revision"]
            self._parameters = int(about["parameters"])
        except KeyError as error:
            raise OSError(f"{path}: not written by `python -m hub_card onnx`: it has no {error}") from error
        except Exception as error:  # ONNX Runtime, the config and JSON raise many unrelated types
            raise OSError(f"{path}: cannot be loaded: {error}") from error

    def __call__(self, pixel_values: torch.Tensor) -> OnnxOutput:
        """(n, 3, side, side) whitened faces, of the size that the graph was exported for."""
        faces = pixel_values.float().cpu().numpy()
        outputs = self._session.run(["embedding", "expression_logits"], {"pixel_values": faces})
        return OnnxOutput(*map(torch.from_numpy, outputs))

    @property
    def calibrated_threshold(self) -> float | None:
        """The config's similarity threshold: the export left it there only where it belongs to these weights."""
        return self.config.similarity_threshold

    def num_parameters(self) -> int:
        """Number of trained parameters of the exported network."""
        return self._parameters

    def eval(self) -> "OnnxNetwork":
        """A graph is always in evaluation mode."""
        return self

    def to(self, device) -> "OnnxNetwork":
        if torch.device(device).type != "cpu":
            raise ValueError(f"an exported graph runs on the CPU, not on {device}")
        return self
