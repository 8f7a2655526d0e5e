"""The fusion rule of FaceLiveNet+: who is accepted, and why not.

One network gives, in one pass, the similarity of a face to the reference and the probability of every expression.
`decide` is the only place where these become a decision; the command line, the session, the app and the evaluation all
call it:

    accepted  <=>  similarity >= threshold
              and  the required expression is the most probable one, alone
              and  its probability >= expression_threshold

A live session has just seen the same face neutral. There the last two lines may also hold relative to that: the
expression's logit margin over neutral has risen by RISE, further than any other's (`has_risen`).

Everything else is a rejection with a reason, and so is every error: a NaN, a missing number or an unknown expression
never accepts. `decide_frames` and `decide_probes` carry the same rule to clips and to several probes, and
`FaceAuthenticationPipeline` brings it to transformers:

    authenticate = pipeline("face-authentication", model="owner/name", trust_remote_code=True)
    authenticate("anna_passport.jpg", "anna_now.jpg", "happy")["accepted"]

This file imports nothing of the project, so that the Hub can ship it as it is.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real

import numpy as np
import torch
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

REASONS = {
    "accepted": "Accepted: the same person, showing the expression that was asked for.",
    "different_person": "The face does not match the reference photograph.",
    "turned": "The face lies on its side or upside down. Turn the picture or the camera upright.",
    "turned_away": "The head is turned to the side. Look into the camera.",
    "eyes_covered": "The eyes cannot be seen: something covers them.",
    "mouth_covered": "The mouth cannot be seen: something covers it.",
    "unclear": "The face cannot be seen clearly: something covers part of it, or it is turned away.",
    "blurred": "The picture of the face is too blurred, too dark or too small to judge.",
    "wrong_expression": "The face matches, but the expression that was asked for was not seen.",
    "wrong_turn": "The head was turned another way than was asked for, or turned when it was not asked for.",
    "different_person_and_wrong_expression": "Neither does the face match, nor was the asked expression seen.",
    "not_held": "The expression was seen with the right face, but was not held long enough.",
    "no_face": "No face was found.",
    "several_faces": "More than one face was seen. Only the person to be checked may be in the picture.",
    "no_frames": "There was no picture to judge.",
    "timed_out": "The time was over before everything that was asked for had been seen.",
    "face_lost": "The face left the picture.",
    "identity_switched": "Another face took the place of the first one.",
    "frozen_stream": "The camera's picture stood still or repeated itself.",
    "slow_stream": "The connection was interrupted, or too slow to follow the face.",
    "uncalibrated": "This model carries no usable threshold, so nobody can be accepted with it.",
    "unknown_expression": "The model does not know the expression that was asked for.",
    "invalid_evidence": "The model gave no usable numbers for this picture.",
}
"""Reason code -> one sentence for people."""

RISE = 4.0
"""By how much an expression's logit margin over neutral has to rise above that of the own neutral face. On 90 private
pairs of a neutral and a smiling photograph of one person, an earlier checkpoint saw 72 % of the smiles without this
rule and 92 % with it."""

RISE_SPREADS = 5.0
"""And by how many times the spread of that margin while the face was held neutral."""

LEAST_MARGIN = -1.0
"""And from which margin on: an expression that the network thinks three times less likely than neutral is none."""

MAX_ROLL = 35.0
"""Degrees by which the line of the eyes may be off the horizontal: what is tilted further, the network cannot judge."""

MAX_ASIDE = 0.4
"""How far the nose may lie beside the middle of a face (`Face.aside`), about 40 degrees of a turned head. Strangers who
are both turned further than that are accepted seven times as often as others (LFW folds 9 and 10)."""

UNLIKE = 0.5
"""Share of the threshold below which a face is clearly somebody else's, not the same person's on a bad photograph."""

UNLIKE_REFERENCES = 0.7
"""The same between reference photographs, where there is time to look again: with it 3.6 % of 83 pairs of one person
and 96.3 % of 3,403 pairs of strangers (LFW folds 9 and 10) are noticed."""

LIKE_ITSELF = 0.5
"""Least cosine between a face and the mean of those in the same clip that match the reference. Faces of one person in
one clip are alike (0.48 at least, in one in which the head is turned), also where they do not match the reference; of
264 pairs of strangers (London) 90 % are below."""

FRAMES_TO_HOLD = 3
"""Consecutive sampled frames that must be accepted one by one before a clip, or a step of a live session, is."""


@dataclass(frozen=True)
class Decision:
    """What was decided about a picture, a clip or a session, with the evidence for it.

    Attributes:
        accepted: True exactly where `reason` is "accepted", and only with `same_identity` and `expression_passed`;
            anything else cannot be constructed.
        reason: a key of `REASONS`.
        same_identity: the similarity reached the threshold.
        similarity: dot product of embedding and template, in [-1, 1]; None where there was none or it was not a number.
        threshold: the calibrated similarity threshold in [-1, 1]; None where the model has none.
        required_expression: the expression that was asked for.
        expression: the most probable expression; None where there was no face.
        expression_probabilities: expression -> probability in [0, 1], summing to 1; empty where there was no face.
        expression_passed: the required expression is the most probable one and probable enough.
        frames: evidence of each frame, for the operator who asked for it.
        model_revision: which weights judged.
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
        """The reason as one sentence for people; it contains no score."""
        return REASONS[self.reason]

    def to_dict(self) -> dict:
        return asdict(self) | {"message": self.message}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def reject(
    reason: str, required_expression: str, *, threshold: float | None = None, model_revision: str | None = None
) -> Decision:
    """The rejection where there is no evidence to judge: no face, several faces, no frames, time over."""
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
    unusable: str | None = None,
) -> Decision:
    """Accept or reject one face.

    Args:
        similarity: dot product of the face's embedding and the template, in [-1, 1].
        threshold: least similarity of the same person, in [-1, 1]; None (not calibrated) rejects.
        expression_probabilities: expression -> probability, summing to 1 (the softmax of the expression branch).
        required_expression: the name that was asked for, one of `expression_probabilities`.
        expression_threshold: least probability of the required expression, in [0, 1].
        model_revision: passed on to the decision.
        baseline: only where the same face has just been seen neutral, without a gap since then: expression -> median
            and spread of `margins` there.
        unusable: why the picture of the face cannot be judged (`unusable_reason`), which rejects; None where it can.

    Returns:
        The decision. Unusable values (NaN, None, out of range, no number at all) do not raise: they reject.
    """
    least_similarity, least_probability = _number(threshold, -1, 1), _number(expression_threshold, 0, 1)
    product, probabilities = _number(similarity, -1, 1), _distribution(expression_probabilities)
    expression = max(probabilities, key=probabilities.__getitem__, default=None)
    same = product is not None and least_similarity is not None and product >= least_similarity
    asked = probabilities.get(required_expression) if isinstance(required_expression, str) else None
    passed = (
        asked is not None
        and least_probability is not None
        and asked >= least_probability
        and all(asked > value for name, value in probabilities.items() if name != required_expression)
    )
    if baseline and asked is not None and least_probability is not None and not passed:
        passed = has_risen(probabilities, required_expression, baseline)
    if product is None or not probabilities:
        reason = "invalid_evidence"
    elif least_similarity is None or least_probability is None:
        reason = "uncalibrated"
    elif asked is None:
        reason = "unknown_expression"
    elif unusable is not None:
        reason = unusable
    elif same and passed:
        reason = "accepted"
    elif same:
        reason = "wrong_expression"
    elif passed:
        reason = "different_person"
    else:
        reason = "different_person_and_wrong_expression"
    return Decision(
        accepted=reason == "accepted",
        reason=reason,
        same_identity=same,
        similarity=product,
        threshold=least_similarity,
        required_expression=required_expression,
        expression=expression,
        expression_probabilities=probabilities,
        expression_passed=passed,
        model_revision=model_revision,
    )


def margins(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Expression -> log(its probability / that of neutral): the difference of the two logits. Empty without neutral."""
    if "neutral" not in probabilities:
        return {}
    neutral = max(probabilities["neutral"], 1e-9)
    return {name: math.log(max(value, 1e-9) / neutral) for name, value in probabilities.items() if name != "neutral"}


def has_risen(
    probabilities: Mapping[str, float], required_expression: str, baseline: Mapping[str, tuple[float, float]]
) -> bool:
    """Whether the required expression stands out from this person's own neutral face.

    Args:
        baseline: expression -> median and spread of its margin while the face was neutral. One that lacks an expression
            proves nothing.
    """
    now = margins(probabilities)
    if required_expression not in now or not all(name in baseline for name in now):
        return False
    rises = {name: margin - baseline[name][0] for name, margin in now.items()}
    rise, spread = rises.pop(required_expression), baseline[required_expression][1]
    return (  # NaN fails every comparison
        rise >= RISE
        and rise >= RISE_SPREADS * spread
        and now[required_expression] >= LEAST_MARGIN
        and all(rise > other for other in rises.values())
    )


def decide_run(decisions: Sequence[Decision], similarity: float) -> Decision:
    """The decision for frames of one person, one after the other, that all showed the required expression.

    Args:
        decisions: of the frames, each by `decide`.
        similarity: of their pooled embedding to the template, in [-1, 1].
    """
    weakest = min(decisions, key=lambda one: one.expression_probabilities.get(one.required_expression, 0.0))
    product = _number(similarity, -1, 1)
    same = product is not None and weakest.threshold is not None and product >= weakest.threshold
    passed = all(one.expression_passed for one in decisions)
    reason = "accepted" if same and passed else "wrong_expression" if same else "different_person"
    accepted = reason == "accepted"
    return replace(
        weakest, accepted=accepted, reason=reason, similarity=product, same_identity=same, expression_passed=passed
    )


QUALITY = {
    "least_sharpness": "blurred",
    "most_eyes_covered": "eyes_covered",
    "most_mouth_covered": "mouth_covered",
    "most_sharpness": "unclear",
    "least_detection_probability": "unclear",
}
"""A bound of `config.quality` on a measure of a face -> the reason of a face outside it. Sharpness has both: noise
is sharper than any face."""

UNUSABLE = frozenset({"turned", "turned_away", *QUALITY.values()})
"""The reasons of `unusable_reason`: a frame with one of them shows no expression, whatever the network says of it."""


def unusable_reason(evidence: Mapping[str, float], quality: Mapping[str, float] | None) -> str | None:
    """Why the network cannot judge this face, a key of `REASONS`; None where it can.

    Two strangers whose eyes are covered, or who are blurred, look alike to it: what raises false accepts is refused.

    Args:
        evidence: "roll" in degrees, "aside", "sharpness" and "detection_probability", as the image processor gives
            them, and the network's logits "eyes_covered" and "mouth_covered", where it has a cover detector.
        quality: the bounds, calibrated beside the threshold (`config.quality`); None sets none.
    """
    if not abs(evidence["roll"]) <= MAX_ROLL:
        return "turned"
    for bound, reason in QUALITY.items():
        if quality and bound in quality:
            kind, _, measure = bound.partition("_")
            value, limit = evidence[measure], quality[bound]
            if not (value >= limit if kind == "least" else value <= limit):  # NaN is outside every bound
                return reason
    return None if evidence["aside"] <= MAX_ASIDE else "turned_away"


def mean_embedding(embeddings: np.ndarray) -> np.ndarray:
    """(n, d) embeddings of one person, at least one -> (d,) float64: their mean direction, at their mean length.

    Zeros, which resemble nobody, where they cancel each other out.
    """
    embeddings = np.asarray(embeddings, np.float64)
    mean, length = embeddings.mean(axis=0), np.linalg.norm(embeddings, axis=1).mean()
    return mean * (length / max(np.linalg.norm(mean), 1e-12))


def unlike_references(embeddings, threshold: float | None) -> list[int]:
    """Which of a person's reference photographs seem to show somebody else than the others: their positions.

    Args:
        embeddings: (n, d). One photograph alone is like itself.
        threshold: the calibrated similarity threshold; without one nothing is known, and nobody is unlike.
    """
    embeddings = np.asarray(embeddings, np.float64)
    if len(embeddings) < 2 or threshold is None:
        return []
    others = [mean_embedding(np.delete(embeddings, row, axis=0)) for row in range(len(embeddings))]
    return [row for row, other in enumerate(others) if embeddings[row] @ other < UNLIKE_REFERENCES * threshold]


def decide_frames(
    decisions: Sequence[Decision],
    required_expression: str,
    hold: int = FRAMES_TO_HOLD,
    embeddings: Sequence[np.ndarray | None] | None = None,
) -> Decision:
    """The decision for one probe: the sampled frames of a clip (hold = `FRAMES_TO_HOLD`), or one photograph (hold = 1).

    Accepted if `hold` consecutive frames are accepted, no frame at all shows a second face, and the frames do not show
    somebody else: at least half of the faces match, and fewer than `hold` of them (of long clips, 5 %) are clearly
    another person's, that is below `UNLIKE` of the threshold or unlike the clip's own faces that match (`LIKE_ITSELF`).
    Faces that cannot be judged are nobody's, but do not match either. The evidence reported is that of the first
    accepted run's frame with the lowest similarity. A rejection reports the frame that came nearest, one for somebody
    else the frame that was least like the reference.

    Args:
        embeddings: (d,) of the face in each frame, None where there was none; without them the faces of a clip are
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
    """The first `hold` frames in a row that were accepted; empty where there are none."""
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
    matching = [own for face, own in faces if own is not None and face.same_identity and face.reason not in UNUSABLE]
    mean = mean_embedding(matching) if matching else None
    others = 0
    for face, own in faces:
        if not face.same_identity and face.reason not in UNUSABLE:
            likeness = 1.0 if own is None or mean is None else _cosine(own, mean)
            others += face.similarity < UNLIKE * face.threshold or not likeness >= LIKE_ITSELF
    return others >= max(hold, len(faces) / 20)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12)


def decide_probes(probes: Sequence[Decision], required_expression: str) -> Decision:
    """The decision for several probes (photographs and clips), each already judged by `decide_frames`.

    Accepted if at least one probe is accepted, every probe with a face is of the same person, and none shows a second
    face. Probes without a face count only where no other is there.
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
    """A real number in [low, high] as a float, else None. Rounding may take it just past its range."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low - 1e-4 <= value <= high + 1e-4:
        return None  # NaN fails every comparison
    return float(min(max(value, low), high))


def _distribution(probabilities) -> dict[str, float]:
    """The probabilities as floats if they are a distribution over names, else an empty dict."""
    if not isinstance(probabilities, Mapping):
        return {}
    numbers = {name: _number(value, 0, 1) for name, value in probabilities.items()}
    if any(value is None or not isinstance(name, str) for name, value in numbers.items()):
        return {}
    return numbers if abs(sum(numbers.values()) - 1) <= 1e-3 else {}


MEASURES = ("roll", "aside", "sharpness", "detection_probability")  # that the image processor takes of a face

CUSTOM_PIPELINES = {
    "face-authentication": {
        "impl": "pipeline_facelivenet.FaceAuthenticationPipeline",
        "pt": ["AutoModel"],
        "type": "image",
    }
}
"""What a config.json says for `transformers.pipeline` to find this file."""


class FaceAuthenticationPipeline(Pipeline):
    """Reference and probe photographs and the expression that was asked for -> the decision, as a dict."""

    _load_image_processor = True
    _load_processor = _load_tokenizer = _load_feature_extractor = _load_video_processor = False

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """As everywhere in transformers, with the code that `pipeline(…, trust_remote_code=True)` loads it by."""
        self.model.config.custom_pipelines = CUSTOM_PIPELINES
        super().save_pretrained(save_directory, **kwargs)
        custom_object_save(self, save_directory)

    def __call__(self, reference, probe, expression: str, **kwargs) -> dict:
        """
        Args:
            reference: a photograph of one person alone, or several of the same person (a list, a generator, a column of
                a dataset); anything the image processor reads: a path, bytes, an open file, a PIL image, an RGB array.
            probe: the photograph to be judged, or several, as `decide_probes` judges them.
            expression: the expression that was asked for, one of the model's.
            detect: False where every photograph is an aligned face; then no face detector is needed.
            allow_unlike: True takes references that seem to be of different people; by default they are refused.

        The network judges in evaluation mode, whatever mode it is in, and is left in that mode.

        Returns:
            `Decision.to_dict()`: accepted, reason, message, similarity, threshold, expression_probabilities, …

        Raises:
            ValueError: the model does not know the expression, a photograph cannot be read, there is no reference, or
                the references show no face, several, one that cannot be judged, or different people. A probe without a
                face is a rejection.
        """
        known = list(self.model.config.id2label.values())
        if expression not in known:
            raise ValueError(f"expression {expression!r}: this model knows {', '.join(known)}")
        return super().__call__({"reference": reference, "probe": probe, "expression": expression}, **kwargs)

    def _sanitize_parameters(self, detect: bool | None = None, allow_unlike: bool | None = None):
        judging = {} if allow_unlike is None else {"allow_unlike": allow_unlike}
        return {} if detect is None else {"detect": detect}, {}, judging

    def preprocess(self, inputs: dict, detect: bool = True) -> dict:
        """pixel_values (references + probes with a face, 3, side, side), and of each reference and probe how many faces
        it shows and its measures."""
        batch = self.image_processor(inputs["reference"], detect=detect)
        references = _measured(batch, detect)
        if not references:
            raise ValueError("no reference photograph: at least one is needed")
        for position, (count, _) in enumerate(references):
            if count > 1:
                raise ValueError(f"reference {position} shows {count} faces; it must show one person alone")
        pixel_values, probes = [batch["pixel_values"]], []
        # one by one: a probe without a face is a rejection, not an error
        for position, probe in enumerate(self.image_processor.listed(inputs["probe"])):
            try:
                batch = self.image_processor([probe], detect=detect)
            except ValueError as error:
                if type(error).__name__ != "NoFaceError":  # its module has another name wherever it is loaded from
                    raise type(error)(str(error).replace("image 0", f"probe {position}", 1)) from error
                probes.append((0, None))
                continue
            pixel_values.append(batch["pixel_values"])
            probes += _measured(batch, detect)
        return {
            "pixel_values": torch.cat(pixel_values),
            "references": references,
            "probes": probes,
            "expression": inputs["expression"],
        }

    def _forward(self, inputs: dict) -> dict:
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()  # by a batch's own statistics the answers would be wrong, and move the network's for good
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
        covers = iter(outputs["covers"])  # of the references, then of the probes that show a face

        def unusable(measures: dict | None) -> str | None:
            covered = next(covers)
            return None if measures is None else unusable_reason(measures | covered, config.quality)

        for position, (_, measures) in enumerate(outputs["references"]):
            if reason := unusable(measures):
                raise ValueError(f"reference {position} cannot be used: {REASONS[reason]}")
        row = len(outputs["references"])
        threshold = self.model.calibrated_threshold  # of these weights, not of those the config was written for
        if not allow_unlike and (unlike := unlike_references(embeddings[:row], threshold)):
            raise ValueError(
                f"reference {' and '.join(map(str, unlike))} of {row} seems to show somebody else than the others; "
                "allow_unlike=True takes them all the same"
            )
        template = mean_embedding(embeddings[:row])
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
    """The network's part of `unusable_reason`'s evidence, a dict for each face; empty ones without a cover detector."""
    if cover_logits is None:
        return [{}] * faces
    return [{"eyes_covered": eyes, "mouth_covered": mouth} for eyes, mouth in cover_logits.float().tolist()]


def _measured(batch: Mapping, detected: bool) -> list[tuple[int, dict[str, float] | None]]:
    """Of each picture of the batch how many faces it shows, and the measures of the one that is judged."""
    if not detected:  # aligned faces: whoever aligned them answers for them
        return [(1, None)] * len(batch["pixel_values"])
    rows = zip(batch["face_count"].tolist(), *(batch[name].tolist() for name in MEASURES), strict=True)
    return [(count, dict(zip(MEASURES, values, strict=True))) for count, *values in rows]
