"""Attacks on live sessions before a rendered camera, and what genuine people look like there (ISO/IEC 30107-3 words).

    python -m evaluation.attacks --model pretrained --data corpora/lfw:9,10 corpora/london --out results

Every kind of attack is rendered from photographs of people (`evaluation.renderings`), found, aligned and judged as a
camera's frame would be, and shown to the session that ships at ten frames a second by somebody who holds the
photograph, sees what is asked, and does the best this kind can: a strip of paper slides over the mouth when an
expression is asked for, the sheet is turned or bent when a turn is. What lies between two rendered pictures is mixed,
so that everything but an exchange comes gradually, to the attacker's favour. The reference is the very photograph that
is held up, the attacker's best case, so an attack's rate is that of the challenge.

Three challenges: one expression alone, one turn alone, and one drawn as the product draws it. APCER is the share of
attacks of a kind that pass, BPCER the share of genuine sessions that the challenge refuses, whoever they are taken for.
Genuine people are composed of photographs: one neutral, one of the expression, one with the head turned (mirrored for
the other side), all of the same person; what a face does in between, and how its upper half moves, photographs cannot
show, so these two checks are judged on films elsewhere (docs/demo.md).
"""

import argparse
import hashlib
import inspect
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator
from authentication.session import (
    TURNS,
    Challenge,
    ChallengeSession,
    Frame,
    draw_challenge,
    upper_face,
    with_pauses,
)
from evaluation.looks import Look, Looks, between
from evaluation.rendered_people import Person, mirrored, people_in
from evaluation.renderings import held, with_other_mouth, with_strip, with_warped_mouth
from evaluation.report.format import rate_text
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import InsufficientDataError, Rate, to_json
from face_data.cache_folder import default_folder
from face_data.table import load_corpus, read_summary, split_corpus
from pipeline_facelivenet import decide

FRAMES_PER_SECOND = 10
REACTION_SECONDS = 0.4  # from the prompt to the beginning of the answer
CHANGE_SECONDS = 0.5  # in which a face, a strip or a warp goes all the way
SWEEP_SECONDS = 3.0  # in which a sheet is turned as far as it goes
YAWS = (0, 10, 20, 30, 40, 50)
BENDS = {"flat": 0, "bent": 90, "bent_far": 130}
STRIPS = ("white", "black", "skin", "sticker", "finger", "pen")
WARPS = (1.0, 1.5, 2.0)
SHARES = (0.25, 0.5, 0.75)  # of a fade, rendered
NOISE = 1.5  # grey levels of a camera's noise in a smoothed band
LANDMARK_NOISE = 0.3  # pixels

EXPRESSION, TURN, DRAWN = "one expression", "one turn", "as drawn"
KINDS = {
    "still": "a neutral photograph, whatever is asked",
    "flat": "a flat print, waved and turned",
    "bent": "a print bent around a cylinder, a quarter of it, and turned",
    "bent_far": "a print bent further than that, and turned",
    **{f"strip_{kind}": f"a photograph, its mouth covered when an expression is asked for: {kind}" for kind in STRIPS},
    **{f"warp_{strength:g}": f"a photograph whose mouth corners are pulled, {strength:g} times" for strength in WARPS},
    "other_mouth": "a photograph cut off below the nose, over another mouth that shows what is asked",
    "swap": "two photographs, exchanged when an expression is asked for",
    "fade_0.3": "two photographs that fade into one another in 0.3 seconds",
    "fade_1": "two photographs that fade into one another in a second",
    "swap_turned": "photographs of every action, turned heads too, exchanged",
    "fade_turned": "photographs of every action, turned heads too, faded into one another in half a second",
    "replay": "a recorded genuine session, played into another draw",
    "replay_same": "a recorded genuine session, played into the same draw",
    "stranger": "somebody else, doing what is asked",
    "half": "somebody else, doing what is asked, with the photograph before the face in between",
}
PLAYED = {  # the challenges each kind is tried at
    **dict.fromkeys(KINDS, (EXPRESSION, DRAWN)),
    **dict.fromkeys(BENDS, (TURN, DRAWN)),
    **dict.fromkeys(("still", "swap_turned", "fade_turned", "replay", "replay_same", "stranger", "half"), (DRAWN,)),
}


Show = Callable[[str, float, int], Look | None]
"""(what is asked, seconds since it is asked, number of the frame) -> what stands before the camera."""


class Stage:
    """Plays sessions.

    Args:
        actions: what a session may ask for.
        thresholds: similarity and expression, of the network.
    """

    def __init__(self, looks: Looks, actions: Sequence[str], thresholds: tuple[float, float], seed: int):
        self.looks, self.actions, self.thresholds = looks, tuple(actions), thresholds
        self.expressions = [name for name in actions if name not in TURNS]
        self.random, self.rng = Random(seed), np.random.default_rng(seed)

    def challenge(self, mode: str, possible: Sequence[str]) -> Challenge | None:
        """One of these actions, or a drawn one of them."""
        wanted = {EXPRESSION: lambda name: name not in TURNS, TURN: lambda name: name in TURNS}
        if mode == DRAWN:
            return draw_challenge(self.actions, random=self.random)
        choices = [name for name in possible if wanted[mode](name)]
        return with_pauses([self.random.choice(choices)], self.random) if choices else None

    def play(
        self, challenge: Challenge, show: Show, template: np.ndarray, least: float | None = None
    ) -> tuple[str, list[Look | None]]:
        """The reason for which the session ended, and what it was shown.

        Args:
            least: similarity in place of the network's threshold.
        """
        session = ChallengeSession(challenge, alternatives=self.actions)
        threshold = self.thresholds[0] if least is None else least
        asked, since, shown, number = None, 0, [], 0
        while session.decision is None:
            if session.required_action != asked:
                asked, since = session.required_action, number
            look = show(asked, (number - since) / FRAMES_PER_SECOND - REACTION_SECONDS, number)
            shown.append(look)
            session.observe(self._frame(look, session, template, threshold, number), number / FRAMES_PER_SECOND)
            number += 1
        return session.decision.reason, shown

    def _frame(self, look: Look | None, session: ChallengeSession, template, threshold: float, number: int) -> Frame:
        decision = decide(
            similarity=float(np.clip(look.embedding @ template, -1, 1)) if look else None,
            threshold=threshold,
            expression_probabilities=look.probabilities(self.looks.names) if look else {},
            required_expression=session.required_expression,
            expression_threshold=self.thresholds[1],
            baseline=session.baseline,
            unusable=look.unusable if look else None,
        )
        if look is None:
            return Frame(decision, None, f"{number}".encode())
        landmarks = look.landmarks + self.rng.normal(0, LANDMARK_NOISE, look.landmarks.shape)
        band = look.band + self.rng.normal(0, NOISE, look.band.shape)
        return Frame(decision, look.embedding, f"{number}".encode(), landmarks, band)


def _gradually(one: Look | None, other: Look | None, since: float, seconds: float) -> Look | None:
    if one is None or other is None:
        return other if since > 0 else one
    return between(one, other, float(np.clip(since / seconds, 0, 1)) if seconds else float(since > 0))


class Actor:
    """Somebody with photographs of a person: what each kind of attack shows. Looks are rendered when first needed."""

    def __init__(self, person: Person, other: Person, looks: Looks, seed: int):
        self.person, self.other, self.looks = person, other, looks
        self.rng = np.random.default_rng(seed)
        self._rendered: dict[tuple, Look | None] = {}

    def _look(self, *key) -> Look | None:
        if key not in self._rendered:
            self._rendered[key] = self.looks.at(self._render(*key))
        return self._rendered[key]

    def _render(self, kind: str, *how) -> Image.Image:
        own = self.person.neutral
        if kind == "sheet":
            yaw, bend = how
            return held(own.image, yaw, bend)
        if kind == "strip":
            return held(with_strip(own.image, own.landmarks, how[0]))
        if kind == "warp":
            return held(with_warped_mouth(own.image, own.landmarks, how[0]))
        if kind == "mouth":
            other = self.other.expressions[how[0]]
            return held(with_other_mouth(own.image, own.landmarks, other.image, other.landmarks))
        if kind == "shown":
            return held(self.person.expressions[how[0]].image)
        if kind == "blend":
            one, other = held(own.image), held(self.person.expressions[how[0]].image)
            return Image.blend(one, other, how[1])
        if kind == "turned":
            turned = self.person.turned
            return held((turned if how[0] == "turn_left" else mirrored(turned)).image)
        raise ValueError(f"unknown picture {kind!r}")

    @property
    def front(self) -> Look | None:
        return self._look("sheet", 0, 0)

    def turn(self, asked: str, since: float, bend: int) -> Look | None:
        """The sheet on its way to one side and back, over and over."""
        share = abs((max(since, 0.0) / SWEEP_SECONDS + 1) % 2 - 1)
        place = share * (len(YAWS) - 1)
        side = 1 if asked == "turn_left" else -1
        low = min(int(place), len(YAWS) - 2)
        one, other = (self._look("sheet", side * YAWS[low + step], bend) for step in (0, 1))
        return other if one is None else one if other is None else between(one, other, place - low)

    def show(self, kind: str) -> Show | None:
        """What this kind shows; None where the photographs for it are missing."""
        person, bend = self.person, BENDS.get(kind, 0)

        def plain(asked: str, since: float, number: int) -> Look | None:
            if kind != "still" and asked in TURNS and since > 0:
                return self.turn(asked, since, bend)
            return self._look("sheet", 0, bend)

        if kind in ("still", *BENDS):
            return plain
        name, _, how = kind.partition("_")
        if name in ("strip", "warp"):
            value = float(how) if name == "warp" else how
            return self._with(plain, lambda asked: self._look(name, value), CHANGE_SECONDS)
        if kind == "other_mouth":
            return self._with(plain, lambda asked: self._look("mouth", asked), CHANGE_SECONDS, self.other)
        if kind in ("swap", "fade_0.3", "fade_1"):
            return self._with(plain, lambda asked: self._look("shown", asked), float(how or 0), person)
        if kind in ("swap_turned", "fade_turned"):
            return self.genuine(0.0 if kind == "swap_turned" else 0.5)
        raise ValueError(f"unknown kind of attack {kind!r}")

    def _with(self, plain: Show, changed: Callable, seconds: float, owner: Person | None = None) -> Show | None:
        """The photograph, and something else while an expression is asked for."""
        if owner is not None and not owner.expressions:
            return None

        def shown(asked: str, since: float, number: int) -> Look | None:
            if asked == "neutral" or asked in TURNS or since <= 0 or (owner and asked not in owner.expressions):
                return plain(asked, since, number)
            if owner is self.person and seconds:  # a fade, rendered: a mixture of pictures is no mixture of looks
                stops = [self.front, *(self._look("blend", asked, share) for share in SHARES), changed(asked)]
                place = float(np.clip(since / seconds, 0, 1)) * (len(stops) - 1)
                low = min(int(place), len(stops) - 2)
                return _gradually(stops[low], stops[low + 1], place - low, 1.0)
            return _gradually(self.front, changed(asked), since, seconds)

        return shown

    def can(self) -> list[str]:
        """The actions there are photographs of."""
        return [*self.person.expressions, *(TURNS if self.person.turned else ())]

    def genuine(self, seconds: float = CHANGE_SECONDS) -> Show:
        """Does what is asked, as far as there are photographs, and goes back to neutral."""
        last: list[Look | None] = [None]

        def shown(asked: str, since: float, number: int) -> Look | None:
            if asked == "neutral":
                return _gradually(last[0] or self.front, self.front, since, seconds)
            if asked not in self.can():
                return self.front
            last[0] = self._look("turned", asked) if asked in TURNS else self._look("shown", asked)
            return _gradually(self.front, last[0], since, seconds)

        return shown


def attack_report(
    people: Sequence[Person],
    looks: Looks,
    actions: Sequence[str],
    similarity_threshold: float,
    expression_threshold: float,
    seed: int = 0,
    kinds: Sequence[str] = tuple(KINDS),
) -> dict:
    """Play every kind of attack on each of these people once, and their own sessions.

    Returns:
        "kinds": kind -> {"about", "challenges": challenge -> {"accepted" (APCER: a rate over sessions, bootstrap over
        people), "reasons" (reason -> count)}}; "bpcer": challenge -> rate of genuine sessions that the challenge
        refuses, "false_reject_rate" likewise of the whole decision; "actions", "people".

    Raises:
        InsufficientDataError: there are no two people.
    """
    if len(people) < 2:
        raise InsufficientDataError("attacks need two people with a neutral photograph that looks ahead")
    stage = Stage(looks, actions, (similarity_threshold, expression_threshold), seed)
    ended = defaultdict(list)  # (kind, challenge) -> (person, reason)
    films = []
    for number, person in enumerate(people):
        with_expressions = [one for one in people if one is not person and one.expressions] or [people[number - 1]]
        other = with_expressions[number % len(with_expressions)]
        actor, stranger = Actor(person, other, looks, seed), Actor(other, person, looks, seed)
        if actor.front is None or actor.front.unusable:  # refused as a reference
            continue
        template = actor.front.embedding
        ends = lambda *key, reason, who=person.name: ended[key].append((who, reason))  # noqa: E731 – a short name
        for kind in [kind for kind in kinds if kind not in ("replay", "replay_same", "stranger", "half")]:
            show = actor.show(kind)
            for mode in PLAYED[kind] if show else ():
                if kind.endswith("_turned") and not {*TURNS, *stage.expressions} <= set(actor.can()):
                    continue
                owner = other if kind == "other_mouth" else person if kind.startswith(("swap", "fade")) else None
                possible = [name for name in stage.actions if owner is None or name in (*owner.expressions, *TURNS)]
                if challenge := stage.challenge(mode, possible):
                    ends(kind, mode, reason=stage.play(challenge, show, template)[0])
        reference = looks.at(held(person.reference.image)) if person.reference else None
        for mode in (EXPRESSION, TURN, DRAWN):
            able = [name for name in stage.actions if name in actor.can()]
            challenge = stage.challenge(mode, able)
            if challenge is None or not set(challenge.actions) <= set(able):
                continue
            reason, film = stage.play(challenge, actor.genuine(), template, least=-1.0)
            ends("genuine", mode, reason=reason)
            if mode == DRAWN and reason == "accepted":
                films.append((person.name, challenge, film, template))
            if reference is not None:
                ends("whole", mode, reason=stage.play(challenge, actor.genuine(), reference.embedding)[0])
        if {"stranger", "half"} & set(kinds) and stranger.front is not None:
            challenge = stage.challenge(DRAWN, stage.actions)
            ends("stranger", DRAWN, reason=stage.play(challenge, stranger.genuine(), template)[0])
            ends("half", DRAWN, reason=stage.play(challenge, _half(actor, stranger), template)[0])
    for name, challenge, film, template in films if "replay" in kinds else ():

        def replayed(asked: str, since: float, number: int, film=film) -> Look | None:
            return film[number] if number < len(film) else film[-1]

        for _ in range(10):
            drawn = stage.challenge(DRAWN, stage.actions)
            ended["replay", DRAWN].append((name, stage.play(drawn, replayed, template, least=-1.0)[0]))
        again = with_pauses(challenge.actions, stage.random)
        ended["replay_same", DRAWN].append((name, stage.play(again, replayed, template, least=-1.0)[0]))
    report = {
        "actions": list(actions),
        "people": len(people),
        "kinds": {
            kind: {
                "about": KINDS[kind],
                "challenges": {
                    mode: {
                        "accepted": _rate(ended[kind, mode], True, seed),
                        "reasons": dict(Counter(reason for _, reason in ended[kind, mode]).most_common()),
                    }
                    for mode in PLAYED[kind]
                },
            }
            for kind in kinds
        },
    }
    for name, kind in (("bpcer", "genuine"), ("false_reject_rate", "whole")):
        report[name] = {mode: _rate(ended[kind, mode], False, seed) for mode in (EXPRESSION, TURN, DRAWN)}
        report[f"{name}_reasons"] = {
            mode: dict(Counter(reason for _, reason in ended[kind, mode]).most_common())
            for mode in (EXPRESSION, TURN, DRAWN)
        }
    return report


def _half(actor: Actor, stranger: Actor) -> Show:
    """The photograph while the face is to be neutral, the stranger's own face while it is to act."""
    own, theirs = actor.show("still"), stranger.genuine()
    return lambda asked, since, number: (own if asked == "neutral" else theirs)(asked, since, number)


def _rate(ended: Sequence[tuple[str, str]], accepted: bool, seed: int) -> Rate:
    hits = np.array([(reason == "accepted") is accepted for _, reason in ended], dtype=bool)
    names = [name for name, _ in ended]
    return rate_over_people(hits, np.ones_like(hits), names, names, seed=seed)


def attacks_text(report: dict) -> str:
    """The report as a table for the terminal."""
    lines = [f"  before a rendered camera: {report['people']:,} people, asked for {', '.join(report['actions'])}"]
    for kind, part in report["kinds"].items():
        for mode, one in part["challenges"].items():
            lines.append(f"    APCER {kind:<14} {mode:<15} {rate_text(one['accepted'])}")
    for mode, rate in report["bpcer"].items():
        lines.append(f"    BPCER                {mode:<15} {rate_text(rate)}")
    for mode, rate in report["false_reject_rate"].items():
        lines.append(f"    FRR of the whole     {mode:<15} {rate_text(rate)}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
        config = authenticator.config
        if config.similarity_threshold is None:
            raise ValueError(
                f"{arguments.model} has no similarity_threshold: run `python -m evaluation calibrate` first"
            )
        code = b"".join(Path(inspect.getfile(one)).read_bytes() for one in (upper_face, type(authenticator.processor)))
        seen_by = code + json.dumps(config.quality, sort_keys=True).encode()
        name = f"{authenticator.revision}_{hashlib.sha256(seen_by).hexdigest()[:8]}"
        looks = Looks(authenticator, name, arguments.cache)
        actions = arguments.actions or authenticator.actions
        reports = {}
        for data in arguments.data:
            folder, splits = split_corpus(data)
            options = read_summary(folder).get("options", {}) if Path(folder).is_dir() else {}
            margin = options.get("margin", authenticator.processor.margin)
            people = people_in(load_corpus(folder, splits), margin, arguments.people)
            thresholds = config.similarity_threshold, config.expression_threshold
            reports[data] = attack_report(people, looks, actions, *thresholds, seed=arguments.seed)
            looks.save()
            print(f"{data}\n{attacks_text(reports[data])}", flush=True)
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / "attacks.json"
        content = {"model": arguments.model, "revision": authenticator.revision, "corpora": _plain(reports)}
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(path)
    except (OSError, ValueError) as error:
        print(f"evaluation.attacks: {error}", file=sys.stderr)
        return 2
    return 0


def _plain(value):
    """Rates as JSON content, in whatever they lie."""
    if isinstance(value, Rate):
        return to_json(value)
    return {name: _plain(part) for name, part in value.items()} if isinstance(value, dict) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a saved model, its Hub id, or an exported graph")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="CORPUS[:SPLIT,…]", help="prepared corpora of people not trained on"
    )
    parser.add_argument(
        "--actions", nargs="+", help="what a session may ask for (default: what the model's config says)"
    )
    parser.add_argument("--people", type=int, default=60, help="people of each corpus at most (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="for attacks.json (default results)")
    parser.add_argument("--seed", type=int, default=0, help="of challenges, noise and bootstrap (default %(default)s)")
    text = "directory of the network outputs for rendered pictures (default: %(default)s)"
    parser.add_argument("--cache", type=Path, default=default_folder(), metavar="FOLDER", help=text)
    parser.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="neither use nor keep that")
    return parser


if __name__ == "__main__":
    sys.exit(main())
