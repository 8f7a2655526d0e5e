"""The decision rule of FaceLiveNet+: who is accepted, and the reason of every rejection.

The network gives the embedding of a face and the probability of every expression. `decide` is the only function that
turns similarity and probabilities into a decision. The command line, the session, the app and the evaluation call it:

    accepted  <=>  similarity >= threshold
              and  the required expression is more probable than every other one
              and  its probability >= expression_threshold

A live session has seen the same face at rest just before. There the last two conditions may instead be relative to the
face at rest: the expression's logit margin over neutral has risen by RISE (`has_risen`). If the face at rest does not
look neutral to the network (RESTING_NEUTRAL), every expression must have risen.

Everything else is a rejection with a reason, and so is every error: a NaN, a missing number or an unknown expression is
never accepted. `decide_frames` and `decide_probes` apply the rule to clips and to several probes.
`FaceAuthenticationPipeline` is the pipeline for transformers:

    authenticate = pipeline("face-authentication", model="owner/name", trust_remote_code=True)
    authenticate("anna_passport.jpg", "anna_now.jpg", "happy")["accepted"]

This file imports nothing of the project, because the Hub serves it as a single file.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

REASONS = {
    "accepted": "Accepted: the same person, with the requested expression.",
    "different_person": "The face does not match the reference photograph.",
    "turned": "The face is on its side or upside down. Turn the image or the camera upright.",
    "turned_away": "The head is turned to the side. Look into the camera.",
    "eyes_covered": "The eyes cannot be seen: something covers them.",
    "mouth_covered": "The mouth cannot be seen: something covers it.",
    "unclear": "The face cannot be seen clearly: something covers a part of it, or it is turned away.",
    "blurred": "The image of the face is too blurred, too dark or too small.",
    "noisy": "The image of the face is too noisy. More light is needed.",
    "compressed": "The image is compressed too much. Use an image of a better quality.",
    "wrong_expression": "The face matches, but the requested expression was not seen.",
    "wrong_turn": "The head was turned to another side than requested, or turned without a request.",
    "different_person_and_wrong_expression": "The face does not match, and the requested expression was not seen.",
    "not_held": "The expression was seen with the right face, but was not held long enough.",
    "no_face": "No face was found.",
    "several_faces": "More than one face was seen. Nobody else may be visible.",
    "no_frames": "There was no image that could be read.",
    "timed_out": "The time was over before all requested actions were seen.",
    "face_lost": "The face was no longer visible.",
    "identity_switched": "Another face took the place of the first one.",
    "frozen_stream": "The camera's image did not change, or was repeated.",
    "slow_stream": "The connection was interrupted, or too slow to follow the face.",
    "uncalibrated": "This model has no usable threshold, so nobody can be accepted.",
    "unknown_expression": "The model does not know the requested expression.",
    "invalid_evidence": "The model gave no usable numbers for this image.",
}
"""Reason code -> a sentence for users."""

RISE = 4.0
"""An expression's logit margin over neutral must rise by this much above that of the same person's face at rest.
On 90 private pairs of a neutral and a smiling photograph of one person, an earlier checkpoint saw 72 % of the smiles
without this rule and 92 % with it."""

RISE_SPREADS = 5.0
"""It must also rise by this many times the spread of the margin while the face was at rest."""

RESTING_NEUTRAL = 0.2
"""Smallest probability of neutral of a face at rest in a live session. The faces of some people look like a slight
smile or like anger when they rest: with the rule for photographs, five of 60 people of LFW could not begin a session.
If an expression is more probable than neutral at rest, every expression must rise."""

MIN_MARGIN = -1.0
"""And it must reach this margin: an expression with less than a third of the probability of neutral is not seen."""

MAX_ROLL = 35.0
"""Largest angle in degrees between the eyes and the horizontal. The network cannot judge faces that are tilted more."""

MAX_ASIDE = 0.36
"""Largest offset of the nose from the middle of a face (`Face.aside`); about 36 degrees of a turned head. Two
strangers with more than 0.4 are accepted seven times as often as others (LFW folds 9 and 10). With this limit, two
strangers with more than 0.25 are accepted 1.4 times as often; with a limit of 0.4 it would be 1.6 times (fold 9)."""

MAX_NOISE = 2.8
"""Largest noise of a face (`image_processing_facelivenet.noise`). Strangers are accepted up to 20 times as often if
both images have more. None of 5,726 photographs of LFW has more than 1.5, and none of 2,721 sharper ones more than
2.6."""

MAX_FLAT_COLOUR = 0.42
"""Largest share of a face with flat colours (`image_processing_facelivenet.flat_colour`). JPEG of a very low quality
stores one colour for each block of pixels, and strangers are accepted nearly three times as often. Of 1,207
photographs of LFW none has a larger share, and 98 % of them have one at JPEG quality 8."""

STRANGER_SHARE = 0.5
"""A similarity below this share of the threshold is clearly that of another person, not of a bad photograph."""

REFERENCE_VIEWS = 4
"""Views of a reference photograph, whose mean embedding is compared with probes. On LFW fold 9 they raise the share of
accepted genuine pairs from 0.901 to 0.915 at a FAR of 1 %, and from 0.742 to 0.754 at 0.1 %. Ten views raise it to
0.914 and 0.757, a photograph with its mirror image to 0.912 and 0.749."""

REFERENCE_SHIFT = 0.03
"""By how much the face is moved in a view of a reference, as a share of the side of the image."""

UNLIKE_REFERENCES = 0.7
"""The same for reference photographs, which a user can replace. With it 3.6 % of 83 pairs of one person and 96.3 % of
3,403 pairs of strangers are reported as unlike (LFW folds 9 and 10, with one view of each photograph)."""

SAME_CLIP_COSINE = 0.5
"""Smallest cosine between a face and the mean of the faces in the same clip that match the reference. In the clips that
were measured, faces of one person have 0.48 at least (one with a turned head); of 264 pairs of strangers (London) 90 %
are below."""

FRAMES_TO_HOLD = 3
"""A clip, or a step of a live session, needs this many consecutive sampled frames that are accepted."""


@dataclass(frozen=True)
class Decision:
    """The decision about a photograph, a frame, a clip or a session, with its evidence.

    Attributes:
        accepted: True if and only if `reason` is "accepted". This needs `same_identity` and `expression_passed`; other
            combinations raise an error.
        reason: a key of `REASONS`.
        same_identity: whether the similarity reached the threshold.
        similarity: dot product of embedding and template, in [-1, 1]; None without a face, or if it was not a number.
        threshold: the calibrated similarity threshold in [-1, 1]; None if the model has none.
        required_expression: the requested expression.
        expression: the most probable expression; None without a face.
        expression_probabilities: expression -> probability in [0, 1], summing to 1; empty without a face.
        expression_passed: whether the required expression is the most probable one, and probable enough.
        frames: evidence of each frame, if it was requested.
        model_revision: identifies the weights.
    """

    accepted: bool
    reason: str
    same_identity: bool
    similarity: float | None
    threshold: float | None
    required_expression: str
    expression: str | None
    expression_probabilities: dict[str, float]
    expression_passed: bool
    frames: tuple[dict, ...] | None = None
    model_revision: str | None = None

    def __post_init__(self):
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; known: {', '.join(REASONS)}")
        proven = self.same_identity and self.expression_passed
        if self.accepted is not (self.reason == "accepted") or (self.accepted and not proven):
            raise ValueError(
                f"accepted={self.accepted!r} contradicts reason={self.reason!r}, same_identity={self.same_identity!r}, "
                f"expression_passed={self.expression_passed!r}"
            )

    @property
    def message(self) -> str:
        """The reason as a sentence for users; it contains no score."""
        return REASONS[self.reason]

    def to_dict(self) -> dict:
        return asdict(self) | {"message": self.message}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def reject(
    reason: str, required_expression: str, *, threshold: float | None = None, model_revision: str | None = None
) -> Decision:
    """A rejection without evidence: no face, several faces, no frames, or the time was over."""
    return Decision(
        accepted=False,
        reason=reason,
        same_identity=False,
        similarity=None,
        threshold=_number(threshold, -1, 1),
        required_expression=required_expression,
        expression=None,
        expression_probabilities={},
        expression_passed=False,
        model_revision=model_revision,
    )


def decide(
    *,
    similarity: float,
    threshold: float | None,
    expression_probabilities: Mapping[str, float],
    required_expression: str,
    expression_threshold: float,
    model_revision: str | None = None,
    baseline: Mapping[str, tuple[float, float]] | None = None,
    at_rest: bool = False,
    unusable: str | None = None,
) -> Decision:
    """Accept or reject one face.

    Args:
        similarity: dot product of the face's embedding and the template, in [-1, 1].
        threshold: smallest similarity of the same person, in [-1, 1]; None (not calibrated) rejects.
        expression_probabilities: expression -> probability, summing to 1 (the softmax of the expression branch).
        required_expression: the requested expression, a key of `expression_probabilities`.
        expression_threshold: smallest probability of the required expression, in [0, 1].
        model_revision: copied into the decision.
        baseline: expression -> median and spread of `margins` of the face at rest. Only if the same face was at rest
            just before, without a gap.
        at_rest: whether a live session waits for the face at rest, which need not look neutral. Only with "neutral" as
            `required_expression`.
        unusable: why the network cannot judge the face (`unusable_reason`), which rejects it; None if it can.

    Returns:
        The decision. Unusable values (NaN, None, out of range, not a number) raise no error but are rejected.
    """
    least_similarity, least_probability = _number(threshold, -1, 1), _number(expression_threshold, 0, 1)
    checked_similarity, probabilities = _number(similarity, -1, 1), _distribution(expression_probabilities)
    expression = max(probabilities, key=probabilities.__getitem__, default=None)
    same_identity = (
        checked_similarity is not None and least_similarity is not None and checked_similarity >= least_similarity
    )
    is_known = isinstance(required_expression, str) and required_expression in probabilities
    passed = False
    if is_known and least_probability is not None:
        passed = _is_shown(probabilities, required_expression, least_probability, baseline, at_rest)
    if checked_similarity is None or not probabilities:
        reason = "invalid_evidence"
    elif least_similarity is None or least_probability is None:
        reason = "uncalibrated"
    elif not is_known:
        reason = "unknown_expression"
    elif unusable is not None:
        reason = unusable
    elif same_identity and passed:
        reason = "accepted"
    elif same_identity:
        reason = "wrong_expression"
    elif passed:
        reason = "different_person"
    else:
        reason = "different_person_and_wrong_expression"
    return Decision(
        accepted=reason == "accepted",
        reason=reason,
        same_identity=same_identity,
        similarity=checked_similarity,
        threshold=least_similarity,
        required_expression=required_expression,
        expression=expression,
        expression_probabilities=probabilities,
        expression_passed=passed,
        model_revision=model_revision,
    )


def _is_shown(
    probabilities: Mapping[str, float],
    required_expression: str,
    least_probability: float,
    baseline: Mapping[str, tuple[float, float]] | None,
    at_rest: bool,
) -> bool:
    """Whether a face shows the required expression; the arguments are those of `decide`."""
    probability = probabilities[required_expression]
    others = [value for name, value in probabilities.items() if name != required_expression]
    must_rise = bool(baseline) and required_expression != "neutral" and not looks_neutral(baseline)
    if probability >= least_probability and all(probability > other for other in others) and not must_rise:
        return True
    if at_rest:
        return required_expression == "neutral" and probability >= RESTING_NEUTRAL
    return bool(baseline) and has_risen(probabilities, required_expression, baseline)


def margins(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Expression -> log(its probability / that of neutral), the difference of both logits. Empty without neutral."""
    if "neutral" not in probabilities:
        return {}
    neutral = max(probabilities["neutral"], 1e-9)
    return {
        name: math.log(max(probability, 1e-9) / neutral)
        for name, probability in probabilities.items()
        if name != "neutral"
    }


def looks_neutral(baseline: Mapping[str, tuple[float, float]]) -> bool:
    """Whether neutral is more probable than every expression for this person's face at rest."""
    return all(margin < 0 for margin, _ in baseline.values())  # False with NaN


def has_risen(
    probabilities: Mapping[str, float], required_expression: str, baseline: Mapping[str, tuple[float, float]]
) -> bool:
    """Whether the required expression has risen above this person's face at rest.

    Args:
        baseline: expression -> median and spread of its margin while the face was at rest. False if it lacks an
            expression.
    """
    current = margins(probabilities)
    if required_expression not in current or not all(name in baseline for name in current):
        return False
    rises = {name: margin - baseline[name][0] for name, margin in current.items()}
    rise, margin = rises.pop(required_expression), current.pop(required_expression)
    return (  # comparisons with NaN are False
        rise >= RISE
        and rise >= RISE_SPREADS * baseline[required_expression][1]
        and margin >= MIN_MARGIN
        and (all(rise > other for other in rises.values()) or all(margin > max(other, 0) for other in current.values()))
    )


def decide_run(decisions: Sequence[Decision], similarity: float) -> Decision:
    """The decision for consecutive frames of one person with the required expression.

    Args:
        decisions: of the frames, each from `decide`.
        similarity: of the pooled embedding to the template, in [-1, 1].
    """
    weakest = min(
        decisions, key=lambda decision: decision.expression_probabilities.get(decision.required_expression, 0.0)
    )
    checked_similarity = _number(similarity, -1, 1)
    same_identity = (
        checked_similarity is not None and weakest.threshold is not None and checked_similarity >= weakest.threshold
    )
    passed = all(decision.expression_passed for decision in decisions)
    reason = "accepted" if same_identity and passed else "wrong_expression" if same_identity else "different_person"
    accepted = reason == "accepted"
    return replace(
        weakest,
        accepted=accepted,
        reason=reason,
        similarity=checked_similarity,
        same_identity=same_identity,
        expression_passed=passed,
    )


QUALITY = {
    "least_sharpness": "blurred",
    "most_eyes_covered": "eyes_covered",
    "most_mouth_covered": "mouth_covered",
    "least_detection_probability": "unclear",
}
"""A bound of `config.quality` on a measure of a face -> the reason for faces outside it."""

UNUSABLE = frozenset({"turned", "turned_away", "noisy", "compressed", *QUALITY.values()})
"""The reasons of `unusable_reason`. A frame with one of them shows no expression, whatever its probabilities are."""


def unusable_reason(evidence: Mapping[str, float], quality: Mapping[str, float] | None) -> str | None:
    """Why the network cannot judge this face, a key of `REASONS`; None if it can.

    The embeddings of two strangers are similar if both have covered eyes, both are blurred, or both are noisy. Such
    faces are refused.

    Args:
        evidence: the MEASURES of the image processor ("roll" in degrees), and the network's logits "eyes_covered" and
            "mouth_covered" if it has a cover detector.
        quality: the bounds, calibrated together with the threshold (`config.quality`); None means no bounds.
    """
    if not abs(evidence["roll"]) <= MAX_ROLL:
        return "turned"
    if not evidence["noise"] <= MAX_NOISE:
        return "noisy"
    for bound, reason in QUALITY.items():
        if quality and bound in quality:
            kind, _, measure = bound.partition("_")
            value, limit = evidence[measure], quality[bound]
            if not (value >= limit if kind == "least" else value <= limit):  # NaN is outside of every bound
                return reason
    # after the covers: those of one colour are flat too
    if not evidence["flat_colour"] <= MAX_FLAT_COLOUR:
        return "compressed"
    return None if evidence["aside"] <= MAX_ASIDE else "turned_away"


def mean_embedding(embeddings: np.ndarray) -> np.ndarray:
    """(n, d) embeddings of one person, at least one -> (d,) float64: their mean direction, at their mean length.

    Zeros, which are similar to nobody, if they cancel each other out.
    """
    embeddings = np.asarray(embeddings, np.float64)
    mean, length = embeddings.mean(axis=0), np.linalg.norm(embeddings, axis=1).mean()
    return mean * (length / max(np.linalg.norm(mean), 1e-12))


def reference_views(faces: torch.Tensor) -> torch.Tensor:
    """The images from which the embedding of a reference is computed.

    The mean embedding of slightly different views of a photograph is more reliable than one embedding, and the time of
    it matters only once. Frames of a camera have a single view.

    Args:
        faces: (n, 3, side, side), from the image processor.

    Returns:
        (n · REFERENCE_VIEWS, 3, side, side), the views of a face one after the other: the face moved down, its mirror
        image moved up, the face moved to the right, its mirror image moved to the left, each by REFERENCE_SHIFT of the
        side.
    """
    side = faces.shape[-1]
    step = max(1, round(side * REFERENCE_SHIFT))
    face, mirrored = (F.pad(image, (step,) * 4, mode="replicate") for image in (faces, faces.flip(-1)))
    views = [
        image[..., top : top + side, left : left + side]
        for image, top, left in (
            (face, 0, step),
            (mirrored, 2 * step, step),
            (face, step, 0),
            (mirrored, step, 2 * step),
        )
    ]
    return torch.stack(views, dim=1).flatten(0, 1)


def reference_embeddings(view_embeddings: np.ndarray) -> np.ndarray:
    """(n · REFERENCE_VIEWS, d) embeddings of `reference_views` -> (n, d) float64: the mean embedding of each face."""
    of_faces = view_embeddings.reshape(-1, REFERENCE_VIEWS, view_embeddings.shape[-1])
    return np.stack([mean_embedding(views) for views in of_faces])


def unlike_references(embeddings, threshold: float | None) -> list[int]:
    """Positions of the reference photographs that seem to show another person than the rest.

    Args:
        embeddings: (n, d); with n = 1 there are none.
        threshold: the calibrated similarity threshold; with None there are none.
    """
    embeddings = np.asarray(embeddings, np.float64)
    if len(embeddings) < 2 or threshold is None:
        return []
    means_of_others = [mean_embedding(np.delete(embeddings, row, axis=0)) for row in range(len(embeddings))]
    return [row for row, mean in enumerate(means_of_others) if embeddings[row] @ mean < UNLIKE_REFERENCES * threshold]


def decide_frames(
    decisions: Sequence[Decision],
    required_expression: str,
    hold: int = FRAMES_TO_HOLD,
    embeddings: Sequence[np.ndarray | None] | None = None,
) -> Decision:
    """The decision for one probe: the sampled frames of a clip (hold = `FRAMES_TO_HOLD`), or one photograph (hold = 1).

    Accepted if `hold` consecutive frames are accepted, no frame shows a second face, and the frames do not show another
    person. They do not if at least half of the faces match, and fewer than `hold` faces (of long clips, fewer than 5 %)
    are clearly of another person: below STRANGER_SHARE of the threshold, or unlike the faces of this clip that match
    (SAME_CLIP_COSINE). Faces that cannot be judged are not counted as another person's, but they do not match either.
    The decision has the evidence of one frame: if accepted, the frame with the lowest similarity in the first accepted
    run; if another person was seen, the frame with the lowest similarity; otherwise the frame that was closest to
    acceptance.

    Args:
        embeddings: (d,) of the face in each frame, None where there was none. Without them the faces of a clip are
            compared with the reference alone.
    """
    if not decisions:
        return reject("no_frames", required_expression)
    if hold < 1:
        raise ValueError(f"hold={hold}: at least one frame must be accepted")
    for decision in decisions:
        if decision.reason == "several_faces":
            return decision
    accepted = _first_run(decisions, required_expression, hold)
    if accepted:
        faces = [decision for decision in decisions if decision.similarity is not None]
        if _shows_somebody_else(decisions, embeddings or [None] * len(decisions), hold):
            stranger = min(faces, key=lambda frame: frame.similarity)
            return replace(stranger, accepted=False, same_identity=False, reason="different_person")
        return min(accepted, key=lambda frame: frame.similarity)
    nearest = max(decisions, key=_nearness)
    return replace(nearest, accepted=False, reason="not_held") if nearest.accepted else nearest


def _first_run(decisions: Sequence[Decision], required_expression: str, hold: int) -> list[Decision]:
    """The first `hold` consecutive accepted frames; empty if there are none."""
    run: list[Decision] = []
    for decision in decisions:
        run = [*run, decision] if decision.accepted and decision.required_expression == required_expression else []
        if len(run) == hold:
            return run
    return []


def _shows_somebody_else(decisions: Sequence[Decision], embeddings: Sequence[np.ndarray | None], hold: int) -> bool:
    faces = [pair for pair in zip(decisions, embeddings, strict=True) if pair[0].similarity is not None]
    if 2 * sum(face.same_identity for face, _ in faces) < len(faces):
        return True
    matching = [
        embedding
        for face, embedding in faces
        if embedding is not None and face.same_identity and face.reason not in UNUSABLE
    ]
    mean = mean_embedding(matching) if matching else None
    stranger_count = 0
    for face, embedding in faces:
        if not face.same_identity and face.reason not in UNUSABLE:
            cosine = 1.0 if embedding is None or mean is None else _cosine(embedding, mean)
            stranger_count += face.similarity < STRANGER_SHARE * face.threshold or not cosine >= SAME_CLIP_COSINE
    return stranger_count >= max(hold, len(faces) / 20)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12)


def decide_probes(probes: Sequence[Decision], required_expression: str) -> Decision:
    """The decision for several probes (photographs and clips), each decided by `decide_frames`.

    Accepted if at least one probe is accepted, every probe with a face shows the same person, and no probe shows a
    second face. Probes without a face count only if there are no others.
    """
    if not probes:
        return reject("no_frames", required_expression)
    for decision in probes:
        if decision.reason == "several_faces":
            return decision
    faces = [decision for decision in probes if decision.reason != "no_face"]
    strangers = [decision for decision in faces if not decision.same_identity]
    return max(strangers or faces or probes, key=_nearness)


def _nearness(decision: Decision) -> tuple:
    similarity = -2.0 if decision.similarity is None else decision.similarity
    return decision.accepted, decision.same_identity, decision.expression_passed, similarity


def _number(value, low: float, high: float) -> float | None:
    """A real number in [low, high] as a float, else None. A rounding error outside of the range is allowed."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low - 1e-4 <= value <= high + 1e-4:
        return None  # also for NaN, whose comparisons are False
    return float(min(max(value, low), high))


def _distribution(probabilities) -> dict[str, float]:
    """The probabilities as floats if they are a distribution over names, else an empty dict."""
    if not isinstance(probabilities, Mapping):
        return {}
    numbers = {name: _number(value, 0, 1) for name, value in probabilities.items()}
    if any(value is None or not isinstance(name, str) for name, value in numbers.items()):
        return {}
    return numbers if abs(sum(numbers.values()) - 1) <= 1e-3 else {}


MEASURES = ("roll", "aside", "sharpness", "noise", "flat_colour", "detection_probability")
"""The measures of a face that the image processor makes."""

CUSTOM_PIPELINES = {
    "face-authentication": {
        "impl": "pipeline_facelivenet.FaceAuthenticationPipeline",
        "pt": ["AutoModel"],
        "type": "image",
    }
}
"""The entry of config.json by which `transformers.pipeline` finds this file."""


class FaceAuthenticationPipeline(Pipeline):
    """Takes reference photographs, probe photographs and the requested expression; returns the decision as a dict."""

    _load_image_processor = True
    _load_processor = _load_tokenizer = _load_feature_extractor = _load_video_processor = False

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save as usual in transformers, with the code that `pipeline(…, trust_remote_code=True)` loads."""
        self.model.config.custom_pipelines = CUSTOM_PIPELINES
        super().save_pretrained(save_directory, **kwargs)
        custom_object_save(self, save_directory)

    def __call__(self, reference, probe, expression: str, **kwargs) -> dict:
        """
        Args:
            reference: a photograph of one person, or several of the same person (a list, a generator, a column of a
                dataset); anything the image processor reads: a path, bytes, an open file, a PIL image, an RGB array.
            probe: the photograph to judge, or several, which `decide_probes` judges together.
            expression: the requested expression, one of the model's.
            detect: False if every photograph is an aligned face; then no face detector is needed.
            allow_unlike: True accepts references that seem to be of different people; by default they are refused.

        The network runs in evaluation mode; its modules are then set back to their previous mode.

        Returns:
            `Decision.to_dict()`: accepted, reason, message, similarity, threshold, expression_probabilities, …

        Raises:
            ValueError: the model does not know the expression, a photograph cannot be read, there is no reference, or
                the references show no face, several faces, a face that cannot be judged, or different people. A probe
                without a face is rejected without an error.
        """
        expressions = list(self.model.config.id2label.values())
        if expression not in expressions:
            raise ValueError(f"expression {expression!r}: this model knows {', '.join(expressions)}")
        return super().__call__({"reference": reference, "probe": probe, "expression": expression}, **kwargs)

    def _sanitize_parameters(self, detect: bool | None = None, allow_unlike: bool | None = None):
        judging = {} if allow_unlike is None else {"allow_unlike": allow_unlike}
        return {} if detect is None else {"detect": detect}, {}, judging

    def preprocess(self, inputs: dict, detect: bool = True) -> dict:
        """pixel_values (references + probes with a face + views of the references, 3, side, side), and the number of
        faces and the measures of each reference and probe."""
        batch = self.image_processor(inputs["reference"], detect=detect)
        references = _faces_and_measures(batch, detect)
        if not references:
            raise ValueError("no reference photograph: at least one is needed")
        for position, (count, _) in enumerate(references):
            if count > 1:
                raise ValueError(f"reference {position} shows {count} faces; it must show one person only")
        pixel_values, probes = [batch["pixel_values"]], []
        # one by one, because a probe without a face is a rejection and not an error
        for position, probe in enumerate(self.image_processor.as_list(inputs["probe"])):
            try:
                batch = self.image_processor([probe], detect=detect)
            except ValueError as error:
                if type(error).__name__ != "NoFaceError":  # its module has a different name for every way of loading it
                    raise type(error)(str(error).replace("image 0", f"probe {position}", 1)) from error
                probes.append((0, None))
                continue
            pixel_values.append(batch["pixel_values"])
            probes += _faces_and_measures(batch, detect)
        pixel_values.append(reference_views(pixel_values[0]))
        return {
            "pixel_values": torch.cat(pixel_values),
            "references": references,
            "probes": probes,
            "expression": inputs["expression"],
        }

    def _forward(self, inputs: dict) -> dict:
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()  # with batch statistics the output would be wrong, and the running statistics would change
        try:
            output = self.model(pixel_values=inputs.pop("pixel_values").to(self.model.dtype))
        finally:
            for module, training in modes.items():
                module.training = training
        return inputs | {
            "embeddings": output.embedding,
            "logits": output.expression_logits,
            "covers": cover_evidence(output.cover_logits, len(output.embedding)),
        }

    def postprocess(self, outputs: dict, allow_unlike: bool = False) -> dict:
        embeddings = outputs["embeddings"].double().cpu().numpy()  # (n, 1792)
        probabilities = outputs["logits"].double().softmax(dim=-1)  # (n, expressions)
        config, decisions = self.model.config, []
        covers = iter(outputs["covers"])  # first of the references, then of the probes that show a face

        def unusable(measures: dict | None) -> str | None:
            face_covers = next(covers)
            return None if measures is None else unusable_reason(measures | face_covers, config.quality)

        for position, (_, measures) in enumerate(outputs["references"]):
            if reason := unusable(measures):
                raise ValueError(f"reference {position} cannot be used: {REASONS[reason]}")
        row = len(outputs["references"])
        references = reference_embeddings(embeddings[-row * REFERENCE_VIEWS :])
        threshold = self.model.calibrated_threshold  # None unless it was calibrated on these weights
        if not allow_unlike and (outliers := unlike_references(references, threshold)):
            raise ValueError(
                f"reference {' and '.join(map(str, outliers))} of {row} seems to show another person than the others; "
                "allow_unlike=True accepts them"
            )
        template = mean_embedding(references)
        revision = getattr(config, "_commit_hash", None)
        for count, measures in outputs["probes"]:
            reason = unusable(measures) if count else None
            if count == 1:
                decision = decide(
                    similarity=float(embeddings[row] @ template),
                    threshold=threshold,
                    expression_probabilities=dict(
                        zip(config.id2label.values(), probabilities[row].tolist(), strict=True)
                    ),
                    required_expression=outputs["expression"],
                    expression_threshold=config.expression_threshold,
                    model_revision=revision,
                    unusable=reason,
                )
            else:
                reason = "several_faces" if count else "no_face"
                decision = reject(reason, outputs["expression"], threshold=threshold, model_revision=revision)
            row += count > 0
            decisions.append(decision)
        return decide_probes(decisions, outputs["expression"]).to_dict()


def cover_evidence(cover_logits: torch.Tensor | None, faces: int) -> list[dict[str, float]]:
    """The network's part of the evidence for `unusable_reason`, a dict for each face; empty without a cover
    detector."""
    if cover_logits is None:
        return [{}] * faces
    return [{"eyes_covered": eyes, "mouth_covered": mouth} for eyes, mouth in cover_logits.float().tolist()]


def _faces_and_measures(batch: Mapping, detected: bool) -> list[tuple[int, dict[str, float] | None]]:
    """For each image of the batch: its number of faces, and the measures of the face that is judged."""
    if not detected:  # aligned faces are not checked
        return [(1, None)] * len(batch["pixel_values"])
    rows = zip(batch["face_count"].tolist(), *(batch[name].tolist() for name in MEASURES), strict=True)
    return [(count, dict(zip(MEASURES, values, strict=True))) for count, *values in rows]
