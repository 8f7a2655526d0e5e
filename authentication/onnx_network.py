"""The exported inference graph in place of the network: `python -m hub_card onnx` writes it, ONNX Runtime runs it.

The file stands alone: it carries the network's config, the image processor's settings and the revision of its weights.
It runs on the CPU.
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
    """embedding: (n, 1792) float32 of length 1. expression_logits: (n, expressions) float32."""

    embedding: torch.Tensor
    expression_logits: torch.Tensor


class OnnxNetwork:
    """Called as `FaceLiveNetModel` is. Safe to share between threads.

    Attributes:
        config, processor: as the checkpoint had them. revision: of its weights.

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
            raise OSError(f"{path}: not written by `python -m hub_card onnx`: it carries no {error}") from error
        except Exception as error:  # ONNX Runtime raises kinds of its own, the config and JSON others
            raise OSError(f"{path}: cannot be loaded: {error}") from error

    def __call__(self, pixel_values: torch.Tensor) -> OnnxOutput:
        """(n, 3, side, side) whitened faces, of the side that the graph was exported for."""
        faces = pixel_values.float().cpu().numpy()
        outputs = self._session.run(["embedding", "expression_logits"], {"pixel_values": faces})
        return OnnxOutput(*map(torch.from_numpy, outputs))

    @property
    def calibrated_threshold(self) -> float | None:
        """The config's similarity threshold: the export left it there only where it belongs to these weights."""
        return self.config.similarity_threshold

    def num_parameters(self) -> int:
        """Trained numbers of the network that was exported."""
        return self._parameters

    def to(self, device) -> "OnnxNetwork":
        if torch.device(device).type != "cpu":
            raise ValueError(f"an exported graph runs on the CPU, not on {device}")
        return self


def exported_graph(model: str | Path) -> Path | None:
    """The graph that this names: an .onnx file, or the only one in a folder without a checkpoint; else None."""
    path = Path(model)
    if path.suffix == SUFFIX and path.is_file():
        return path
    if path.is_dir() and not (path / "model.safetensors").exists():
        found = sorted(path.glob(f"*{SUFFIX}"))
        return found[0] if len(found) == 1 else None
    return None
