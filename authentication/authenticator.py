"""The network and its image processor: turns photographs and frames into templates, evidence and decisions.

In this package *evidence* is what network and detector say about a face, to *decide* is to turn evidence into a
decision, and to *judge* is to do both. Used by everything that authenticates. Read `pipeline_facelivenet.decide` next.

authenticator = Authenticator.from_pretrained("pretrained")
template = authenticator.template(["anna.jpg"])
decision = authenticator.judge(template, "probe.jpg", "happy")
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from authentication.template import Template
from authentication.tracking import FaceTracker
from checkpoints import DEFAULT_MODEL, load_checkpoint
from image_processing_facelivenet import Face, FaceLiveNetImageProcessor, NoFaceError, name_of
from modeling_facelivenet import HEAD_TURNS, FaceLiveNetModel
from onnx_network import OnnxNetwork, for_inference
from pipeline_facelivenet import (
    MEASURES,
    REASONS,
    Decision,
    cover_evidence,
    decide,
    reference_embeddings,
    reference_views,
    reject,
    unlike_references,
    unusable_reason,
)

__all__ = [
    "DEFAULT_MODEL",
    "Authenticator",
    "Evidence",
    "SeveralFacesError",
    "UnlikeReferencesError",
    "UnusableFaceError",
]


class SeveralFacesError(ValueError):
    """A reference photograph shows more than one face, so it is unknown of whom the template should be made."""


class UnusableFaceError(ValueError):
    """The network cannot judge the face on a reference photograph, for example because it is covered or blurred."""


class UnlikeReferencesError(ValueError):
    """The reference photographs seem to be of different people."""


@dataclass(frozen=True)
class Evidence:
    """What the network and the detector say about the main face of one image.

    embedding: (1792,) float32, of length 1 at most.
    expression_probabilities: expression -> probability, summing to 1.
    box: (4,) float32, left, top, right, bottom in pixels of the upright image.
    landmarks: (5, 2) float32 pixels: eyes, nose, corners of the mouth.
    detection_probability: the detector's, in [0, 1].
    face_count: number of faces on the image.
    turn: degrees counterclockwise by which the image was turned to make the face upright; box and landmarks are in
        pixels of the image before that turn.
    unusable: why the network cannot judge the face, a key of `pipeline_facelivenet.REASONS`; None if it can.
    """

    embedding: np.ndarray
    expression_probabilities: dict[str, float]
    box: np.ndarray
    landmarks: np.ndarray
    detection_probability: float
    face_count: int
    turn: int = 0
    unusable: str | None = None


class Authenticator:
    """Turns images into templates, evidence and decisions. Threads may share it.

    Args:
        model: nobody is accepted unless its similarity threshold was calibrated on its weights. If possible, a copy in
            ONNX Runtime is used (`onnx_network.for_inference`); an exported graph is used directly.
        processor: detects and aligns the face.
        device: of the network; the detector always runs on the CPU.
        revision: identifies the weights, for `model_revision` of the decisions.
    """

    def __init__(
        self, model: FaceLiveNetModel | OnnxNetwork, processor: FaceLiveNetImageProcessor, device="cpu", revision=None
    ):
        model = model.to(device)
        self.parameters = model.num_parameters()
        self.config = copy.copy(model.config)
        self.config.similarity_threshold = model.calibrated_threshold  # None if it is of other weights
        self.model = model if isinstance(model, OnnxNetwork) else for_inference(model, processor.size)
        self.processor = processor
        self.device = device
        self.revision = revision

    @classmethod
    def from_pretrained(cls, model: str | Path, device: str = "cpu") -> "Authenticator":
        """Load a model folder, a model on the Hub or an exported .onnx file, see `checkpoints.load_checkpoint`.

        Raises:
            FileNotFoundError: there is no such folder, or no checkpoint in it.
            OSError: the checkpoint is damaged, incomplete or cannot be downloaded. Every message names the model.
        """
        checkpoint = load_checkpoint(model, device)
        return cls(checkpoint.network, checkpoint.processor, device, checkpoint.revision)

    @property
    def challenges(self) -> tuple[str, ...]:
        """The expressions that a live session may request: those that the checkpoint recognises reliably."""
        names = self.config.challenge_expressions
        return tuple(name for name in names if name in self.config.expressions and name != "neutral")

    @property
    def actions(self) -> tuple[str, ...]:
        """All actions that a live session may request: expressions and turns of the head."""
        chosen = self.config.challenge_actions
        return (*self.challenges, *HEAD_TURNS) if chosen is None else tuple(chosen)

    def template(self, references: Sequence, allow_unlike: bool = False) -> Template:
        """The template of one person from one or more reference photographs (anything `load_image` reads).

        Args:
            allow_unlike: accept photographs that seem to be of different people.

        Raises:
            UnreadableImageError, NoFaceError, SeveralFacesError, UnusableFaceError, UnlikeReferencesError: the message
                names the photograph.
        """
        references = self.processor.as_list(references)
        if not references:
            raise ValueError("a template needs at least one reference photograph")
        names = [name_of(reference, f"reference {number}") for number, reference in enumerate(references)]
        batch = self.processor(references)
        faces = batch["pixel_values"]
        embeddings, (_, _, covers) = self._embed_references(faces), self._run(faces)
        for number, (name, count) in enumerate(zip(names, batch["face_count"].tolist(), strict=True)):
            if count > 1:
                raise SeveralFacesError(f"{name}: shows {count} faces; a reference must show one person only")
            if reason := self._unusable(batch, number, covers[number]):
                raise UnusableFaceError(f"{name}: {REASONS[reason]}")
        outliers = [] if allow_unlike else unlike_references(embeddings, self.config.similarity_threshold)
        if outliers:
            raise UnlikeReferencesError(
                f"{' and '.join(names[number] for number in outliers)}: seems to show another person than the "
                "other references"
            )
        return Template.from_embeddings(embeddings)

    def evidence(self, image, tracker: FaceTracker | None = None) -> Evidence | None:
        """The evidence of one photograph or frame (anything `load_image` reads); None if it shows no face.

        Args:
            tracker: of the live stream to which the frame belongs; halves the time.

        Raises:
            UnreadableImageError: the message names the image.
        """
        try:
            batch = self.processor([image], detector=tracker.find if tracker else None)
        except NoFaceError:
            return None
        embeddings, probabilities, covers = self._run(batch["pixel_values"])
        turn, unusable = int(batch["turn"][0]), self._unusable(batch, 0, covers[0])
        if tracker and turn:  # a photograph may be turned upright; the camera of a live session must be upright
            unusable = "turned"
        elif tracker and unusable == "turned_away":  # a live session requests turns of the head
            unusable = None
        return Evidence(
            embedding=embeddings[0],
            expression_probabilities=dict(zip(self.config.expressions, probabilities[0].tolist(), strict=True)),
            box=batch["box"][0].numpy(),
            landmarks=batch["landmarks"][0].numpy(),
            detection_probability=float(batch["detection_probability"][0]),
            face_count=int(batch["face_count"][0]),
            turn=turn,
            unusable=unusable,
        )

    def crop(self, image: Image.Image, evidence: Evidence) -> np.ndarray:
        """The aligned face of an RGB image, (size, size, 3) uint8, as the network gets it."""
        face = Face(evidence.box, evidence.landmarks, evidence.detection_probability, evidence.turn)
        return self.processor.align(image, face)

    def embed_reference(self, face: np.ndarray) -> np.ndarray:
        """The embedding (d,) of a reference photograph with this face, (size, size, 3) uint8 from `crop`."""
        pixels = torch.from_numpy(np.array(face)).permute(2, 0, 1)  # a copy, which may be written to
        return self._embed_references(self.processor.whiten(pixels[None]))[0]

    def decide(
        self,
        template: Template,
        evidence: Evidence | None,
        required_expression: str,
        baseline: Mapping[str, tuple[float, float]] | None = None,
        at_rest: bool = False,
    ) -> Decision:
        """The decision about one face; None as evidence (no face) and several faces are rejected.

        Args:
            baseline, at_rest: in a live session, see `pipeline_facelivenet.decide`.
        """
        if evidence is None or evidence.face_count != 1:
            reason = "several_faces" if evidence else "no_face"
            threshold = self.config.similarity_threshold
            return reject(reason, required_expression, threshold=threshold, model_revision=self.revision)
        return decide(
            similarity=template.similarity(evidence.embedding),
            threshold=self.config.similarity_threshold,
            expression_probabilities=evidence.expression_probabilities,
            required_expression=required_expression,
            expression_threshold=self.config.expression_threshold,
            model_revision=self.revision,
            baseline=baseline,
            at_rest=at_rest,
            unusable=evidence.unusable,
        )

    def judge(
        self, template: Template, image, required_expression: str, tracker: FaceTracker | None = None
    ) -> Decision:
        """`evidence` and `decide` for one photograph or frame; an image without a face is rejected.

        Raises:
            UnreadableImageError: the message names the image.
        """
        return self.decide(template, self.evidence(image, tracker), required_expression)

    def _unusable(self, batch: Mapping, number: int, covers: Mapping[str, float]) -> str | None:
        """Why the network cannot judge a face of the image processor's batch; None if it can."""
        return unusable_reason({name: float(batch[name][number]) for name in MEASURES} | covers, self.config.quality)

    def _embed_references(self, pixel_values: torch.Tensor) -> np.ndarray:
        """(n, 3, H, W), the faces of reference photographs -> their embeddings (n, d)."""
        return reference_embeddings(self._run(reference_views(pixel_values))[0])

    @torch.inference_mode()
    def _run(self, pixel_values: torch.Tensor) -> tuple[np.ndarray, np.ndarray, list[dict[str, float]]]:
        """(n, 3, H, W) -> embeddings (n, d) float32, expression probabilities (n, classes) float64, and n dicts of
        `cover_evidence`."""
        output = self.model(pixel_values=pixel_values.to(self.device))
        probabilities = output.expression_logits.double().softmax(dim=-1)
        covers = cover_evidence(output.cover_logits, len(pixel_values))
        return output.embedding.float().cpu().numpy(), probabilities.cpu().numpy(), covers
