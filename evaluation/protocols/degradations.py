"""Measures how many strangers are accepted when both images are degraded in the same way, without and with the gate.

At most MAX_FACES images are compared with one another: first unchanged, then with each degradation.
Turned heads cannot be made from frontal images, so the most turned heads of the corpus are taken. The gate is the
config's `quality`, calibrated on other people; a pair with a face that it refuses is not accepted. The face crops are
degraded after the detection, so the detection probability is that of the unchanged image. For a camera's frames the
gate therefore refuses more faces than here. `corpus` calls `evaluate_degradations`; the gate is calibrated in
`evaluation.quality`.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw, ImageFilter

from checkpoints import Checkpoint
from evaluation.quality import face_and_landmarks, measure_faces
from evaluation.statistics.intervals import identity_weights, interval
from evaluation.statistics.rates import Count, InsufficientDataError, Rate, rate, result
from face_data.table import column
from image_processing_facelivenet import nose_offset
from pipeline_facelivenet import unusable_reason

FACE_SHARE = 138 / 182  # width of the face's box in units of the crop's width
MAX_FACES, MAX_FACES_PER_PERSON = 200, 2  # 19,900 pairs with 16 degradations take minutes on one core
TURNED = 0.25  # smallest `Face.aside` of a turned head; about 25 degrees

Degradation = Callable[[Image.Image, np.ndarray], Image.Image]  # takes a crop and its landmarks (5, 2) in pixels of it
Row = tuple[dict, tuple[Image.Image, np.ndarray]]  # of a corpus; its crop and landmarks


def _lines_over_eyes(face: Image.Image, landmarks: np.ndarray, colour, height: float) -> Image.Image:
    left, right = landmarks[:2]
    reach, width = (right - left) * 0.55, face.width * FACE_SHARE
    ImageDraw.Draw(face).line([*(left - reach), *(right + reach)], fill=colour, width=round(height * width))
    return face


def _transparent_bar(face: Image.Image, landmarks: np.ndarray) -> Image.Image:
    return Image.blend(face, _lines_over_eyes(face.copy(), landmarks, "black", 0.22), 0.6)


def _glasses(face: Image.Image, landmarks: np.ndarray, colour) -> Image.Image:
    width, draw = face.width * FACE_SHARE, ImageDraw.Draw(face)
    for x, y in landmarks[:2]:
        draw.ellipse([x - 0.19 * width, y - 0.13 * width, x + 0.19 * width, y + 0.15 * width], fill=colour)
    return face


def _over_mouth(face: Image.Image, landmarks: np.ndarray) -> list[tuple[float, float]]:
    top = float(landmarks[2, 1]) - 0.02 * face.height
    low, chin = 0.8 * face.height, 0.95 * face.height
    corners = [(0.12, top), (0.88, top), (0.88, low), (0.5, chin), (0.12, low)]
    return [(x * face.width, y) for x, y in corners]


def _mask(face: Image.Image, landmarks: np.ndarray) -> Image.Image:
    ImageDraw.Draw(face).polygon(_over_mouth(face, landmarks), fill=(120, 170, 200))
    return face


def _scarf(face: Image.Image, landmarks: np.ndarray) -> Image.Image:
    """A checked scarf: a cover that has a texture."""
    rows, columns = np.mgrid[: face.height, : face.width] * 16 // face.width
    checks = np.where(((rows + columns) % 2)[..., None], (150, 40, 50), (220, 200, 180)).astype(np.uint8)
    shape = Image.new("L", face.size)
    ImageDraw.Draw(shape).polygon(_over_mouth(face, landmarks), fill=255)
    face.paste(Image.fromarray(checks), mask=shape)
    return face


def _darkened(face: Image.Image) -> Image.Image:
    pixels = np.asarray(face, np.float32) * 0.12
    pixels += np.random.default_rng(0).normal(0, 2, pixels.shape)  # the sensor's noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _noisy(face: Image.Image) -> Image.Image:
    """Grey noise, as of a camera in the dark."""
    pixels = np.asarray(face, np.float32) + np.random.default_rng(0).normal(0, 25, (face.height, face.width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _with_specks(face: Image.Image) -> Image.Image:
    """Salt and pepper: 5 % of the pixels white, 5 % black."""
    chance, pixels = np.random.default_rng(0).random((face.height, face.width)), np.array(face)
    pixels[chance < 0.05], pixels[chance > 0.95] = 0, 255
    return Image.fromarray(pixels)


def _motion_blurred(face: Image.Image) -> Image.Image:
    """Blurred horizontally, over an eighth of the face's width."""
    pixels, reach = np.asarray(face, np.float32), max(1, round(face.width * FACE_SHARE / 16))
    wide = np.pad(pixels, [(0, 0), (reach, reach), (0, 0)], mode="edge")
    sums = sum(wide[:, shift : shift + face.width] for shift in range(2 * reach + 1))
    return Image.fromarray((sums / (2 * reach + 1)).astype(np.uint8))


def _downscaled(face: Image.Image) -> Image.Image:
    side = round(30 / FACE_SHARE)
    return face.resize((side, side), Image.Resampling.BILINEAR).resize(face.size, Image.Resampling.BICUBIC)


def _compressed(face: Image.Image) -> Image.Image:
    file = io.BytesIO()
    face.save(file, "JPEG", quality=8)
    return Image.open(file).convert("RGB")


def _with_cover(cover: Callable[..., Image.Image], *colours) -> Degradation:
    return lambda face, landmarks: cover(face, landmarks, *colours)


def _whole_image(change: Callable[[Image.Image], Image.Image]) -> Degradation:
    return lambda face, landmarks: change(face)


def _blurred(share: float) -> Degradation:
    return _whole_image(lambda face: face.filter(ImageFilter.GaussianBlur(share * face.width * FACE_SHARE)))


DEGRADATIONS: dict[str, Degradation] = {
    "unchanged": _whole_image(lambda face: face),
    "black bar over the eyes": _with_cover(_lines_over_eyes, "black", 0.22),
    "grey bar over the eyes": _with_cover(_lines_over_eyes, (150, 140, 130), 0.3),
    "bar of 60 % opacity over the eyes": _transparent_bar,
    "dark glasses": _with_cover(_glasses, (25, 20, 20)),
    "coloured glasses": _with_cover(_glasses, (200, 110, 30)),
    "mask": _mask,
    "checked scarf": _scarf,
    "blurred by 4 % of its width": _blurred(0.04),
    "blurred by 7 % of its width": _blurred(0.07),
    "blurred by motion": _whole_image(_motion_blurred),
    "dark": _whole_image(_darkened),
    "noise": _whole_image(_noisy),
    "specks": _whole_image(_with_specks),
    "30 pixels wide": _whole_image(_downscaled),
    "JPEG of quality 8": _whole_image(_compressed),
}


@result
class DegradedRates:
    """refused: share of the faces that the gate refuses. false_accepts: share of the impostor pairs accepted at the
    checkpoint's threshold. genuine_accepts: share of the genuine pairs accepted. gated: the same with the gate; a pair
    with a refused face is not accepted."""

    refused: Rate
    false_accepts: Rate
    false_accepts_gated: Rate
    genuine_accepts: Rate
    genuine_accepts_gated: Rate


@result
class DegradationsReport:
    """degradations: name -> its rates; "unchanged" is without a degradation. above_twice: the degradations under which
    strangers are accepted more than twice as often as with unchanged images, both with the gate."""

    similarity_threshold: float
    photographs: Count
    people: Count
    degradations: dict[str, DegradedRates]
    above_twice: list[str]


def evaluate_degradations(checkpoint: Checkpoint, corpus: Dataset, seed: int, batch_size: int) -> DegradationsReport:
    """The rates of a calibrated checkpoint for every degradation.

    Raises:
        InsufficientDataError: there is no threshold, or there are no two people with landmarks.
    """
    config = checkpoint.network.config
    if config.similarity_threshold is None:
        raise InsufficientDataError("the checkpoint has no similarity_threshold")
    rows = _rows_with_faces(corpus.select(_sample(column(corpus, "identity"), seed)))
    people = {row["identity"] for row, _ in rows}
    if len(people) < 2:
        raise InsufficientDataError("it has no two faces of different people with landmarks")
    rates = _rates_under(DEGRADATIONS, checkpoint, rows, seed, batch_size)
    turned = _most_turned(corpus)
    if len({row["identity"] for row, _ in turned}) > 1:
        rates |= _rates_under({"head turned": DEGRADATIONS["unchanged"]}, checkpoint, turned, seed, batch_size)
    limit = 2 * rates["unchanged"].false_accepts_gated.value
    return DegradationsReport(
        similarity_threshold=config.similarity_threshold,
        photographs=len(rows),
        people=len(people),
        degradations=rates,
        above_twice=[name for name, degradation in rates.items() if degradation.false_accepts_gated.value > limit],
    )


def _rows_with_faces(corpus: Dataset) -> list[Row]:
    """The rows that have landmarks, with their faces."""
    return [(row, face) for row in corpus if (face := face_and_landmarks(row)) is not None]


def _most_turned(corpus: Dataset) -> list[Row]:
    """At most MAX_FACES rows with turned heads, the most turned first, with their faces."""
    aside = np.array(
        [
            0.0 if row["identity"] is None or row["landmarks"] is None else abs(nose_offset(np.array(row["landmarks"])))
            for row in corpus.select_columns(["identity", "landmarks"])
        ]
    )
    order = np.argsort(-aside, kind="stable")[:MAX_FACES]
    return _rows_with_faces(corpus.select(order[aside[order] >= TURNED]))


def _rates_under(
    degradations: dict[str, Degradation], checkpoint: Checkpoint, rows: list[Row], seed: int, batch: int
) -> dict[str, DegradedRates]:
    """The rates over all pairs of these faces, for each degradation. Both images have one view, unlike a reference."""
    config, people = checkpoint.network.config, np.array([row["identity"] for row, _ in rows])
    first, second = np.triu_indices(len(people), 1)
    same = people[first] == people[second]
    probabilities, masks_by_degradation = [row["detection_probability"] for row, _ in rows], {}
    for name, degrade in degradations.items():
        faces = [(degrade(face.copy(), landmarks), landmarks) for _, (face, landmarks) in rows]
        embeddings, measures = measure_faces(checkpoint, faces, probabilities, batch)
        usable = np.array([unusable_reason(evidence, config.quality) is None for evidence in measures])
        above = (embeddings[first] * embeddings[second]).sum(axis=1) >= config.similarity_threshold
        masks_by_degradation[name] = (usable, above, above & usable[first] & usable[second])
    accepted = np.stack([mask for _, *masks in masks_by_degradation.values() for mask in masks])
    false_accepts, genuine_accepts = (
        _rates(accepted, pairs, people[first], people[second], seed) for pairs in (~same, same)
    )
    return {
        name: DegradedRates(
            refused=rate(int((~usable).sum()), len(usable)),
            false_accepts=false_accepts[2 * index],
            false_accepts_gated=false_accepts[2 * index + 1],
            genuine_accepts=genuine_accepts[2 * index],
            genuine_accepts_gated=genuine_accepts[2 * index + 1],
        )
        for index, (name, (usable, *_)) in enumerate(masks_by_degradation.items())
    }


def _sample(identities: list[str | None], seed: int) -> list[int]:
    """At most MAX_FACES random rows, with at most MAX_FACES_PER_PERSON of each person."""
    rows_by_person: dict[str, list[int]] = {}
    for row in np.random.default_rng(seed).permutation(len(identities)).tolist():
        if identities[row] is not None:
            rows_by_person.setdefault(identities[row], []).append(row)
    chosen = [row for rows in rows_by_person.values() for row in rows[:MAX_FACES_PER_PERSON]]
    return sorted(chosen[:MAX_FACES])


def _rates(
    accepted: np.ndarray, is_counted: np.ndarray, first: np.ndarray, second: np.ndarray, seed: int
) -> list[Rate]:
    """A rate for each row of accepted (k, n) over the pairs where `is_counted` (n,); intervals from the same draws."""
    hits, people = accepted[:, is_counted], (first[is_counted], second[is_counted])
    rates = [rate(int(row.sum()), len(row)) for row in hits]
    if not is_counted.any():
        return rates
    numbers = hits.astype(np.float32)  # NumPy multiplies boolean matrices slowly, without BLAS
    draws = [
        numbers @ weights.astype(np.float32) / weights.sum()
        for weights in identity_weights(*people, seed=seed)
        if weights.sum()
    ]
    return [
        replace(pair_rate, bootstrap=interval([float(draw[index]) for draw in draws]))
        if 0 < pair_rate.hits < pair_rate.total
        else pair_rate
        for index, pair_rate in enumerate(rates)
    ]
