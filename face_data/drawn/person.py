"""The appearance of a drawn person, and expressions as strengths of muscles.

`drawn.draw_face` and `parts` call it. Lengths are in units of half the height of the head. Read `sheet` next, which
explains the coordinates.
"""

from dataclasses import astuple, dataclass

import numpy as np

# RGB. SKIN goes from light to dark. Dark skin is combined only with the first three of HAIR and the first two of IRIS.
SKIN = np.array([(250, 222, 203), (242, 204, 176), (226, 178, 144), (202, 150, 114), (170, 118, 86), (134, 92, 68)])
HAIR = np.array(
    [(36, 28, 26), (64, 42, 30), (160, 158, 156), (106, 70, 42), (150, 66, 34), (162, 116, 66), (212, 178, 116)]
)
IRIS = np.array([(74, 46, 28), (116, 80, 42), (92, 112, 64), (74, 120, 156), (114, 130, 142)])
FRAMES = np.array([(30, 28, 30), (104, 62, 36), (150, 30, 44), (40, 60, 112), (178, 152, 92)])
HAIR_STYLES = ("bald", "cropped", "parted", "swept", "fringe", "long", "curly", "bun")
BEARDS = ("none", "none", "none", "none", "moustache", "goatee", "full", "stubble")
GLASSES = ("none", "none", "none", "round", "square")


@dataclass(frozen=True)
class Muscles:
    """Action units of the Facial Action Coding System (Ekman, Friesen and Hager 2002), 0 (relaxed) to 1 (maximum)."""

    inner_brow_raiser: float = 0.0  # AU1
    outer_brow_raiser: float = 0.0  # AU2
    brow_lowerer: float = 0.0  # AU4
    upper_lid_raiser: float = 0.0  # AU5
    cheek_raiser: float = 0.0  # AU6
    lid_tightener: float = 0.0  # AU7
    nose_wrinkler: float = 0.0  # AU9, which also lifts the upper lip
    lip_corner_puller: float = 0.0  # AU12
    lip_corner_depressor: float = 0.0  # AU15
    lip_stretcher: float = 0.0  # AU20
    lip_tightener: float = 0.0  # AU23
    lips_part: float = 0.0  # AU25
    jaw_drop: float = 0.0  # AU26

    def scaled(self, strength: float) -> "Muscles":
        """All muscles multiplied by a strength, 0 to 1."""
        return Muscles(*(strength * unit for unit in astuple(self)))

    def jittered(self, rng: np.random.Generator) -> "Muscles":
        """The same expression with random changes of its strength, and of the strength of each muscle."""
        units = np.array(astuple(self))
        units *= rng.uniform(0.7, 1.1) * rng.uniform(0.85, 1.15, len(units))
        return Muscles(*np.clip(units + rng.uniform(0, 0.08, len(units)), 0, 1).tolist())


# The action units of each basic emotion in EMFACS (Friesen and Ekman 1983), with strengths that are easy to recognise.
EXPRESSION_MUSCLES = {
    "neutral": Muscles(),
    "anger": Muscles(brow_lowerer=1.0, upper_lid_raiser=0.35, lid_tightener=0.7, lip_tightener=1.0),
    "disgust": Muscles(
        brow_lowerer=0.35, lid_tightener=0.8, nose_wrinkler=1.0, lip_corner_depressor=0.7, lips_part=0.3
    ),
    "fear": Muscles(
        inner_brow_raiser=1.0,
        outer_brow_raiser=0.35,
        brow_lowerer=0.6,
        upper_lid_raiser=0.9,
        lip_stretcher=1.0,
        lips_part=0.8,
    ),
    "happy": Muscles(cheek_raiser=0.9, lip_corner_puller=1.0, lips_part=0.7),
    "sad": Muscles(inner_brow_raiser=0.9, brow_lowerer=0.5, lip_corner_depressor=1.0),
    "surprise": Muscles(inner_brow_raiser=1.0, outer_brow_raiser=1.0, upper_lid_raiser=0.8, jaw_drop=1.0),
}


def muscles_of(expression: str) -> Muscles:
    """The muscles of an expression at full strength; ValueError for a name that is not in `EXPRESSION_MUSCLES`."""
    if expression not in EXPRESSION_MUSCLES:
        raise ValueError(f"cannot draw the expression {expression!r}; choose one of {', '.join(EXPRESSION_MUSCLES)}")
    return EXPRESSION_MUSCLES[expression]


@dataclass(frozen=True)
class Person:
    """The values of a face that are the same in all photographs of a person.

    Colours are RGB, 0 to 255; cheek, jaw and chin are widths as fractions of head_width.
    """

    number: int
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    frame: np.ndarray  # colour of the glasses
    hair_style: str
    beard: str
    glasses: str
    hairline: float
    parting: float  # its side and position, -1 to 1
    head_width: float
    cheek: float
    jaw: float
    chin: float
    chin_length: float
    ear: float
    eye_width: float
    eye_height: float
    eye_distance: float  # from the middle of the face to the middle of an eye
    eye_tilt: float  # height of the outer corner above the inner one
    lashes: float
    brow_thickness: float
    brow_height: float
    brow_arch: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_height: float
    freckles: np.ndarray  # (n, 2)
    mole: np.ndarray  # (0 or 1, 2)

    @classmethod
    def from_number(cls, number: int) -> "Person":
        """The person of this number (not negative), always the same."""
        rng = np.random.default_rng(number)
        tone = rng.uniform(0, len(SKIN) - 1)
        skin = np.array([np.interp(tone, range(len(SKIN)), channel) for channel in SKIN.T]) + rng.normal(0, 4, 3)
        # Light hair or eyes are rare with dark skin, and a detector finds such a face less often
        dark = tone > 2.8
        return cls(
            number=number,
            skin=np.clip(skin, 0, 255),
            hair=np.clip(HAIR[rng.integers(3 if dark else len(HAIR))] + rng.normal(0, 8, 3), 0, 255),
            iris=np.clip(IRIS[rng.integers(2 if dark else len(IRIS))] + rng.normal(0, 8, 3), 0, 255),
            lips=np.clip(skin * (0.9, 0.62, 0.62) + rng.uniform(0, 1) * np.array((25, -15, -5)), 0, 255),
            frame=FRAMES[rng.integers(len(FRAMES))],
            hair_style=str(rng.choice(HAIR_STYLES)),
            beard=str(rng.choice(BEARDS)),
            glasses=str(rng.choice(GLASSES)),
            hairline=rng.uniform(-0.66, -0.5),
            parting=rng.uniform(0.2, 0.9) * rng.choice((-1, 1)),
            head_width=rng.uniform(0.66, 0.80),
            cheek=rng.uniform(0.90, 1.0),
            jaw=rng.uniform(0.70, 0.90),
            chin=rng.uniform(0.26, 0.46),
            chin_length=rng.uniform(0.95, 1.07),
            ear=rng.uniform(0.12, 0.2),
            eye_width=rng.uniform(0.125, 0.165),
            eye_height=rng.uniform(0.050, 0.075),
            eye_distance=rng.uniform(0.27, 0.34),
            eye_tilt=rng.uniform(-0.01, 0.03),
            lashes=rng.uniform(0, 1),
            brow_thickness=rng.uniform(0.025, 0.06),
            brow_height=rng.uniform(0.20, 0.25),
            brow_arch=rng.uniform(0.01, 0.05),
            nose_width=rng.uniform(0.10, 0.17),
            nose_length=rng.uniform(0.32, 0.42),
            mouth_width=rng.uniform(0.20, 0.28),
            lip_height=rng.uniform(0.03, 0.075),
            freckles=rng.uniform((-0.45, 0.08), (0.45, 0.35), (rng.choice((0, 0, 0, 30)), 2)),
            mole=rng.uniform((-0.45, 0.1), (0.45, 0.8), (rng.choice((0, 0, 1)), 2)),
        )
