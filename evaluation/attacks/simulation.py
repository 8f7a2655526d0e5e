"""Shows attacks and genuine sessions to the shipped session, and reports how many of each are accepted.

`command` calls `attack_report` for each corpus; `actors` decides what is shown in each frame. Read `actors` next.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

import numpy as np

from authentication.session import TURNS, Challenge, ChallengeSession, Frame, draw_challenge, with_pauses
from evaluation.attacks.actors import BENDS, KINDS, Actor, Show, photograph_between_actions
from evaluation.attacks.observations import Observation, ObservationCache
from evaluation.attacks.people import Person
from evaluation.attacks.renderings import hold
from evaluation.report.format import rate_text
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import InsufficientDataError, Rate
from pipeline_facelivenet import decide

FRAMES_PER_SECOND = 10
REACTION_SECONDS = 0.4  # from the prompt to the start of the action
NOISE = 1.5  # standard deviation of a camera's noise in the smoothed upper face, in grey levels
LANDMARK_NOISE = 0.3  # pixels
REPLAYS = 10  # of each recorded session, each to another challenge

EXPRESSION, TURN, DRAWN = "one expression", "one turn", "as drawn"
PLAYED = {  # kind of attack -> its challenges
    **dict.fromkeys(KINDS, (EXPRESSION, DRAWN)),
    **dict.fromkeys(BENDS, (TURN, DRAWN)),
    **dict.fromkeys(("still", "swap_turned", "fade_turned", "replay", "replay_same", "stranger", "half"), (DRAWN,)),
}


class Stage:
    """Runs sessions.

    Args:
        actions: all that a session may request.
        thresholds: the network's for similarity and expression.
        seed: of challenges and noise.
    """

    def __init__(
        self, observations: ObservationCache, actions: Sequence[str], thresholds: tuple[float, float], seed: int
    ):
        self.observations, self.actions, self.thresholds = observations, tuple(actions), thresholds
        self.expressions = [name for name in actions if name not in TURNS]
        self.random, self.rng = Random(seed), np.random.default_rng(seed)

    def challenge(self, mode: str, possible: Sequence[str]) -> Challenge | None:
        """A challenge of this mode: one of the possible actions, or drawn from all; None where none fits."""
        if mode == DRAWN:
            return draw_challenge(self.actions, random=self.random)
        choices = [name for name in possible if (name in TURNS) == (mode == TURN)]
        return with_pauses([self.random.choice(choices)], self.random) if choices else None

    def play(
        self, challenge: Challenge, show: Show, template: np.ndarray, threshold: float | None = None
    ) -> tuple[str, list[Observation | None]]:
        """Run one session; returns the reason with which it ended, and the observations it was shown.

        Args:
            threshold: for the similarity; by default the network's.
        """
        session = ChallengeSession(challenge, alternatives=self.actions)
        threshold = self.thresholds[0] if threshold is None else threshold
        action, action_start, observations = None, 0, []
        while session.decision is None:
            number = len(observations)
            if session.required_action != action:
                action, action_start = session.required_action, number
            observations.append(show(action, (number - action_start) / FRAMES_PER_SECOND - REACTION_SECONDS, number))
            frame = self._frame(observations[-1], session, template, threshold, number)
            session.observe(frame, number / FRAMES_PER_SECOND)
        return session.decision.reason, observations

    def _frame(
        self,
        observation: Observation | None,
        session: ChallengeSession,
        template: np.ndarray,
        threshold: float,
        number: int,
    ) -> Frame:
        similarity = float(np.clip(observation.embedding @ template, -1, 1)) if observation else None
        decision = decide(
            similarity=similarity,
            threshold=threshold,
            expression_probabilities=observation.probabilities(self.observations.expressions) if observation else {},
            required_expression=session.required_expression,
            expression_threshold=self.thresholds[1],
            baseline=session.baseline,
            at_rest=session.accepts_any_rest,
            unusable=observation.unusable if observation else None,
        )
        fingerprint = f"{number}".encode()
        if observation is None:
            return Frame(decision, None, fingerprint)
        landmarks = observation.landmarks + self.rng.normal(0, LANDMARK_NOISE, observation.landmarks.shape)
        upper_face = observation.upper_face + self.rng.normal(0, NOISE, observation.upper_face.shape)
        return Frame(decision, observation.embedding, fingerprint, landmarks, upper_face)


def attack_report(
    people: Sequence[Person],
    observations: ObservationCache,
    actions: Sequence[str],
    similarity_threshold: float,
    expression_threshold: float,
    seed: int = 0,
    kinds: Sequence[str] = tuple(KINDS),
) -> dict:
    """Run every kind of attack on each of these people once, and genuine sessions of them.

    Returns:
        "kinds": kind -> {"about", "challenges": challenge -> {"accepted" (APCER: a rate over sessions, bootstrap over
        people), "reasons" (reason -> count)}}; "bpcer": challenge -> rate of genuine sessions that the challenge
        refuses, "false_reject_rate": the same with the identity check; "actions", "people".

    Raises:
        InsufficientDataError: there are no two people.
    """
    if len(people) < 2:
        raise InsufficientDataError("attacks need two people with a frontal neutral photograph")
    stage = Stage(observations, actions, (similarity_threshold, expression_threshold), seed)
    endings = defaultdict(list)  # (kind, challenge) -> (person, reason)
    films = []
    for number, person in enumerate(people):
        candidates = [candidate for candidate in people if candidate is not person and candidate.expressions]
        candidates = candidates or [people[number - 1]]
        mouth_donor = candidates[number % len(candidates)]
        actor, stranger = Actor(person, mouth_donor, observations), Actor(mouth_donor, person, observations)
        template = observations.template(hold(person.neutral.image))
        if actor.front is None or template is None:  # refused as a reference
            continue
        _play_photographs(stage, actor, kinds, template, endings)
        film = _play_genuine(stage, actor, template, endings)
        if film is not None:
            films.append((person.name, *film, template))
        if {"stranger", "half"} & set(kinds) and stranger.front is not None:
            challenge = stage.challenge(DRAWN, stage.actions)
            for kind, show in (
                ("stranger", stranger.genuine()),
                ("half", photograph_between_actions(actor, stranger)),
            ):
                endings[kind, DRAWN].append((person.name, stage.play(challenge, show, template)[0]))
    if "replay" in kinds:
        _play_replays(stage, films, endings)
    return _report(endings, actions, len(people), kinds, seed)


def _play_photographs(stage: Stage, actor: Actor, kinds: Sequence[str], template: np.ndarray, endings: dict) -> None:
    """Run every kind of attack with photographs of one person, with each of its challenges."""
    person, mouth_donor = actor.person, actor.mouth_donor
    for kind in kinds:
        if kind in ("replay", "replay_same", "stranger", "half"):
            continue
        show = actor.show(kind)
        for mode in PLAYED[kind] if show else ():
            if kind.endswith("_turned") and not {*TURNS, *stage.expressions} <= set(actor.possible_actions()):
                continue
            owner = mouth_donor if kind == "other_mouth" else person if kind.startswith(("swap", "fade")) else None
            possible = [name for name in stage.actions if owner is None or name in (*owner.expressions, *TURNS)]
            if challenge := stage.challenge(mode, possible):
                endings[kind, mode].append((person.name, stage.play(challenge, show, template)[0]))


def _play_genuine(
    stage: Stage, actor: Actor, template: np.ndarray, endings: dict
) -> tuple[Challenge, list[Observation | None]] | None:
    """Run genuine sessions of the person; returns a drawn challenge and the accepted session for it, for replays."""
    person, film = actor.person, None
    reference = stage.observations.template(hold(person.reference.image)) if person.reference else None
    for mode in (EXPRESSION, TURN, DRAWN):
        possible = [name for name in stage.actions if name in actor.possible_actions()]
        challenge = stage.challenge(mode, possible)
        if challenge is None or not set(challenge.actions) <= set(possible):
            continue
        reason, observations = stage.play(challenge, actor.genuine(), template, threshold=-1.0)
        endings["genuine", mode].append((person.name, reason))
        if mode == DRAWN and reason == "accepted":
            film = challenge, observations
        if reference is not None:
            reason = stage.play(challenge, actor.genuine(), reference)[0]
            endings["with identity check", mode].append((person.name, reason))
    return film


def _play_replays(stage: Stage, films: Sequence[tuple], endings: dict) -> None:
    """Replay recorded sessions (person, challenge, observations, template) to other challenges and to the same one."""
    for name, challenge, film, template in films:

        def replay(action: str, since: float, number: int, film=film) -> Observation | None:
            return film[number] if number < len(film) else film[-1]

        for _ in range(REPLAYS):
            new_challenge = stage.challenge(DRAWN, stage.actions)
            endings["replay", DRAWN].append((name, stage.play(new_challenge, replay, template, threshold=-1.0)[0]))
        same_challenge = with_pauses(challenge.actions, stage.random)
        endings["replay_same", DRAWN].append((name, stage.play(same_challenge, replay, template, threshold=-1.0)[0]))


def _report(endings: dict, actions: Sequence[str], people: int, kinds: Sequence[str], seed: int) -> dict:
    """The content of `attack_report`."""
    report = {
        "actions": list(actions),
        "people": people,
        "kinds": {
            kind: {
                "about": KINDS[kind],
                "challenges": {
                    mode: {
                        "accepted": _rate(endings[kind, mode], True, seed),
                        "reasons": _reasons(endings[kind, mode]),
                    }
                    for mode in PLAYED[kind]
                },
            }
            for kind in kinds
        },
    }
    for name, kind in (("bpcer", "genuine"), ("false_reject_rate", "with identity check")):
        report[name] = {mode: _rate(endings[kind, mode], False, seed) for mode in (EXPRESSION, TURN, DRAWN)}
        report[f"{name}_reasons"] = {mode: _reasons(endings[kind, mode]) for mode in (EXPRESSION, TURN, DRAWN)}
    return report


def _reasons(endings: Sequence[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(reason for _, reason in endings).most_common())


def _rate(endings: Sequence[tuple[str, str]], accepted: bool, seed: int) -> Rate:
    """The rate of sessions (person, reason) that were accepted (True) or not accepted (False)."""
    hits = np.array([(reason == "accepted") is accepted for _, reason in endings], dtype=bool)
    names = [name for name, _ in endings]
    return rate_over_people(hits, np.ones_like(hits), names, names, seed=seed)


def attacks_text(report: dict) -> str:
    """The report as a table for the terminal."""
    lines = [f"  rendered attacks: {report['people']:,} people, actions {', '.join(report['actions'])}"]
    for kind, attack in report["kinds"].items():
        for mode, result in attack["challenges"].items():
            lines.append(f"    APCER {kind:<14} {mode:<15} {rate_text(result['accepted'])}")
    for mode, rate in report["bpcer"].items():
        lines.append(f"    BPCER                {mode:<15} {rate_text(rate)}")
    for mode, rate in report["false_reject_rate"].items():
        lines.append(f"    FRR                  {mode:<15} {rate_text(rate)}")
    return "\n".join(lines)
