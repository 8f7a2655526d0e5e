"""Simulates whole challenge sessions of genuine users, impostors and attackers (terms of ISO/IEC 30107-3).

Labelled photographs replace camera frames. The shipped session with the shipped decision rule asks for neutral for a
random time, then for one expression. A simulated person shows each photograph for a second, then another photograph
with the same expression. Between two photographs the network's outputs are interpolated over CHANGE_FRAMES frames.

The photographs of a person were taken on different days. So genuine users are rejected more often here than in front of
a camera, although the pooled embedding of different photographs is better than that of one day's frames. Photographs
also cannot show how a face moves between them. The interpolated frames pass the checks for continuity, for movement of
the upper face and for repeated frames. `evaluation.attacks` measures these, and turns of the head, with rendered camera
frames.

The challenge has to detect attacks. So BPCER (share of genuine sessions rejected) and APCER (share of attacks of one
species accepted) are measured with the identity check switched off. The false reject rate, the false accept rate of
impostors without an attack instrument, and IAPAR (share of attacks of one species accepted) are measured with it. A
network that rejects many genuine faces also rejects attacks with photographs of them: its low IAPAR is no merit.
`corpus` calls `session_report`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from authentication.session import ChallengeSession, Frame, with_pauses
from authentication.session.movement import HEIGHT, WIDTH
from evaluation.embeddings.table import Embeddings
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import Count, InsufficientDataError, Rate, Share, result
from pipeline_facelivenet import Decision, decide

FRAMES_PER_SECOND = 5
CHANGE_FRAMES = 3  # frames of the change from one photograph to the next
VIDEO_STEP_SECONDS = 3  # time for which a replayed video shows each expression
SESSIONS_PER_PERSON = 5  # at most, of each kind and challenge; some people have hundreds of photographs

KINDS = {
    "genuine": "the person of the reference, doing what is asked",
    "impostor": "another person, doing what is asked",
    "still_neutral": "a neutral photograph of the person, throughout",
    "still_asked": "a photograph of the person showing what will be asked, throughout",
    "replay_other": "a video of the person: neutral, then another expression than asked",
    "replay_reversed": "a video of the person: the asked expression, then neutral",
    "replay_matching": "a video of the person: neutral, then what is asked",
    "replay_all": "a video of the person: neutral, then all the challenges in turn, over and over",
}
ATTACKS = tuple(kind for kind in KINDS if kind not in ("genuine", "impostor"))


@dataclass(frozen=True)
class Played:
    """One session. kind: of KINDS. claimed: person of the reference. presented: person before the camera. step: the
    last."""

    kind: str
    claimed: str
    presented: str
    challenge: str
    decision: Decision
    step: str


@result
class SessionKind:
    """accepted: rate over sessions. challenge_passed: the same with the identity check switched off. reasons: reason of
    the decision -> count."""

    about: str
    accepted: Rate
    challenge_passed: Rate
    reasons: dict[str, Count]


@result
class ReplayGuess:
    """Replay of a video of a randomly chosen challenge. probability: that it is the requested challenge. apcer: share
    of such replays that pass; None if there are no photographs of another expression."""

    probability: Share
    apcer: Share | None


@result
class SessionsReport:
    """kinds: kind of session -> rates. bpcer, apcer (species -> rate): without the identity check. apcer_max: the
    species with the highest APCER. false_reject_rate of genuine users, false_accept_rate of impostors, iapar (species
    -> rate): with the identity check. rejected_at: step -> reason -> count, of genuine sessions. one_photograph: number
    of genuine sessions with a single photograph for some step."""

    similarity_threshold: float
    expression_threshold: float
    challenges: list[str]
    frames_per_second: float
    kinds: dict[str, SessionKind]
    bpcer: Rate
    apcer: dict[str, Rate]
    apcer_max: str
    false_reject_rate: Rate
    false_accept_rate: Rate
    iapar: dict[str, Rate]
    replay_guess: ReplayGuess
    rejected_at: dict[str, dict[str, Count]]
    people: Count
    photographs: Count
    one_photograph: Count


def session_report(
    embeddings: Embeddings,
    similarity_threshold: float,
    expression_threshold: float,
    challenges: Sequence[str],
    seed: int,
) -> SessionsReport:
    """Simulate sessions of all people with a neutral photograph, one of a challenge, and a third one as reference.

    Args:
        challenges: expressions that a session may request after neutral.

    Raises:
        ValueError: the model does not know a challenge. InsufficientDataError: nobody has the photographs for a
            session.
    """
    for name in ("neutral", *challenges):
        if name not in embeddings.classes:
            raise ValueError(f"sessions need {name!r}: the model knows {', '.join(embeddings.classes)}")
    simulator = _Simulator(embeddings, similarity_threshold, expression_threshold, challenges, seed)
    played = [session for challenge in challenges for session in simulator.play_all(challenge)]
    if not played:
        raise InsufficientDataError(
            "sessions cannot be simulated with these splits: nobody has a photograph labelled neutral, one labelled "
            f"{' or '.join(challenges)}, and a third one as reference"
        )
    # The same sessions, with the same random numbers, without the identity check.
    any_identity = _Simulator(embeddings, -1.0, expression_threshold, challenges, seed)
    challenge_alone = [session for challenge in challenges for session in any_identity.play_all(challenge)]
    kinds = {}
    for kind, about in KINDS.items():
        sessions = [session for session in played if session.kind == kind]
        kinds[kind] = SessionKind(
            about=about,
            accepted=_rate(sessions, True, seed),
            challenge_passed=_rate([session for session in challenge_alone if session.kind == kind], True, seed),
            reasons=dict(Counter(session.decision.reason for session in sessions).most_common()),
        )
    genuine = [session for session in played if session.kind == "genuine"]
    rejected_at = defaultdict(Counter)
    for session in genuine:
        if not session.decision.accepted:
            rejected_at[session.step][session.decision.reason] += 1
    apcer = {kind: kinds[kind].challenge_passed for kind in ATTACKS}
    measured_attacks = [kind for kind in ATTACKS if apcer[kind].total]
    return SessionsReport(
        similarity_threshold=similarity_threshold,
        expression_threshold=expression_threshold,
        challenges=list(challenges),
        frames_per_second=FRAMES_PER_SECOND,
        kinds=kinds,
        bpcer=_rate([session for session in challenge_alone if session.kind == "genuine"], False, seed),
        apcer=apcer,
        apcer_max=max(measured_attacks, key=lambda kind: apcer[kind].value),
        false_reject_rate=_rate(genuine, False, seed),
        false_accept_rate=kinds["impostor"].accepted,
        iapar={kind: kinds[kind].accepted for kind in ATTACKS},
        replay_guess=_guess(apcer, len(challenges)),
        rejected_at={step: dict(reasons.most_common()) for step, reasons in rejected_at.items()},
        people=len({session.claimed for session in genuine}),
        photographs=len(simulator.used_rows),
        one_photograph=simulator.single_photograph,
    )


def _rate(sessions: Sequence[Played], accepted: bool, seed: int) -> Rate:
    """The rate of sessions that were accepted (True) or rejected (False)."""
    hits = np.array([session.decision.accepted is accepted for session in sessions], dtype=bool)
    first, second = [session.claimed for session in sessions], [session.presented for session in sessions]
    return rate_over_people(hits, np.ones_like(hits), first, second, seed=seed)


def _guess(apcer: dict[str, Rate], challenges: int) -> ReplayGuess:
    """The chance of an attacker who replays a video of a randomly chosen challenge, out of `challenges`."""
    matching, other = apcer["replay_matching"].value, apcer["replay_other"].value
    chance = 1 / challenges
    measured = challenges == 1 or other is not None
    passed = chance * matching + (1 - chance) * (other or 0.0) if measured else None
    return ReplayGuess(probability=chance, apcer=passed)


class _Simulator:
    """Simulates sessions with the photographs of a corpus, at given thresholds.

    used_rows: rows shown in any session. single_photograph: number of genuine sessions with a single photograph for
    some step.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        similarity_threshold: float,
        expression_threshold: float,
        challenges: Sequence[str],
        seed: int,
    ):
        self.challenges = challenges
        self.embeddings, self.rng, self.pauses = embeddings, np.random.default_rng(seed), Random(seed)
        self.thresholds = {"threshold": similarity_threshold, "expression_threshold": expression_threshold}
        self.probabilities = embeddings.probabilities_by_name
        self.photographs, self.rows_by_expression = defaultdict(list), defaultdict(lambda: defaultdict(list))
        for row in sorted(range(len(embeddings)), key=lambda row: embeddings.keys[row]):
            person, label = embeddings.identities[row], embeddings.expressions[row]
            if person is not None:
                self.photographs[person].append(row)
                self.rows_by_expression[person][label].append(row)
        self.used_rows, self.single_photograph, self.upper_faces = set(), 0, {}

    def play_all(self, challenge: str) -> list[Played]:
        people = [
            person
            for person, by_expression in sorted(self.rows_by_expression.items())
            if by_expression["neutral"] and by_expression[challenge] and len(self.photographs[person]) > 2
        ]
        played = []
        for person in people:
            by_expression = self.rows_by_expression[person]
            other_expressions = sorted(
                name for name, rows in by_expression.items() if rows and name not in ("neutral", challenge, None)
            )
            strangers = [name for name in people if name != person]
            for _ in range(min(SESSIONS_PER_PERSON, len(self.photographs[person]) - 2)):
                neutral, required = self._shuffled(by_expression["neutral"]), self._shuffled(by_expression[challenge])
                reference = self._reference(person, neutral, required)
                neutral = [row for row in neutral if row != reference]
                required = [row for row in required if row != reference]
                self.single_photograph += min(len(neutral), len(required)) == 1
                video = {"replay_reversed": (required[0], neutral[0]), "replay_matching": (neutral[0], required[0])}
                if other_expressions:
                    other_rows = by_expression[str(self.rng.choice(other_expressions))]
                    video["replay_other"] = (neutral[0], self._shuffled(other_rows)[0])
                if all(by_expression[name] for name in self.challenges):
                    in_turn = [required if name == challenge else by_expression[name] for name in self.challenges]
                    video["replay_all"] = (neutral[0], *(rows[0] for rows in in_turn))
                scripts = {
                    "genuine": _cooperative({"neutral": neutral, challenge: required}),
                    "still_neutral": lambda step, frame, row=neutral[0]: row,
                    "still_asked": lambda step, frame, row=required[0]: row,
                } | {kind: _video(rows, looped=kind == "replay_all") for kind, rows in video.items()}
                played += [self._play(kind, person, person, challenge, reference, s) for kind, s in scripts.items()]
                if strangers:
                    stranger = str(self.rng.choice(strangers))
                    photographs = {
                        name: self._shuffled(self.rows_by_expression[stranger][name]) for name in ("neutral", challenge)
                    }
                    played.append(
                        self._play("impostor", person, stranger, challenge, reference, _cooperative(photographs))
                    )
        return played

    def _upper_face(self, row: int) -> np.ndarray:
        """A random upper face for each photograph, so that the upper faces of two photographs always differ."""
        if row not in self.upper_faces:
            self.upper_faces[row] = np.random.default_rng(row).uniform(0, 255, (HEIGHT, WIDTH))
        return self.upper_faces[row]

    def _shuffled(self, rows: list[int]) -> list[int]:
        return [rows[place] for place in self.rng.permutation(len(rows))]

    def _reference(self, person: str, neutral: list[int], required: list[int]) -> int:
        """A random photograph of the person, which is not the only one for a step."""
        only_rows = {rows[0] for rows in (neutral, required) if len(rows) == 1}
        return int(self.rng.choice([row for row in self.photographs[person] if row not in only_rows]))

    def _play(
        self, kind: str, claimed: str, presented: str, challenge: str, reference: int, script: Callable[[str, int], int]
    ) -> Played:
        session = ChallengeSession(with_pauses([challenge], self.pauses), alternatives=self.challenges)
        frame, row, previous_row, change_frame, shown = 0, None, None, 0, None
        vectors, template = self.embeddings.embeddings, self.embeddings.references[reference]
        while session.decision is None:
            step, required = session.step, session.required_expression
            if (requested_row := script(required, frame)) != row:
                row, previous_row, change_frame = requested_row, requested_row if row is None else row, frame
            self.used_rows.add(row)
            share = min((frame - change_frame + 1) / CHANGE_FRAMES, 1.0)
            if (previous_row, row, share) != shown:  # most frames show the same as the one before
                shown = previous_row, row, share
                embedding = interpolated_embedding(vectors[previous_row], vectors[row], share)
                similarity = float(np.clip(embedding @ template, -1, 1))
                probabilities = interpolate(self.probabilities[previous_row], self.probabilities[row], share)
                upper_face = (1 - share) * self._upper_face(previous_row) + share * self._upper_face(row)
            decision = decide(
                similarity=similarity,
                expression_probabilities=probabilities,
                required_expression=required,
                baseline=session.baseline,
                at_rest=session.accepts_any_rest,
                **self.thresholds,
            )
            observed = Frame(decision, embedding, f"{frame}".encode(), upper_face=upper_face)
            session.observe(observed, frame / FRAMES_PER_SECOND)
            frame += 1
        return Played(kind, claimed, presented, challenge, session.decision, "neutral" if step == "start" else step)


def interpolated_embedding(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """(d,) the embedding at this share, 0 to 1, of the way from start to end; its length changes evenly."""
    mixed = (1 - share) * start + share * end
    length = (1 - share) * np.linalg.norm(start) + share * np.linalg.norm(end)
    return mixed * (length / max(np.linalg.norm(mixed), 1e-12))


def interpolate(start: dict[str, float], end: dict[str, float], share: float) -> dict[str, float]:
    """Probabilities whose logits lie at this share, 0 to 1, of the way from start to end."""
    logits = {
        name: (1 - share) * np.log(max(start[name], 1e-9)) + share * np.log(max(end[name], 1e-9)) for name in start
    }
    total = np.logaddexp.reduce(list(logits.values()))
    return {name: float(np.exp(value - total)) for name, value in logits.items()}


def _cooperative(rows: dict[str, list[int]]) -> Callable[[str, int], int]:
    """Shows the required expression, each photograph for a second, repeatedly."""
    return lambda required, frame: rows[required][frame // FRAMES_PER_SECOND % len(rows[required])]


def _video(rows: tuple[int, ...], looped: bool) -> Callable[[str, int], int]:
    """Shows the photographs in order, whatever expression is required; then repeats them, or stays at the last one."""
    length = VIDEO_STEP_SECONDS * FRAMES_PER_SECOND

    def script(required: str, frame: int) -> int:
        position = frame // length
        return rows[position % len(rows) if looped else min(position, len(rows) - 1)]

    return script
