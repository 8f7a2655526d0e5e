"""Draws the parts of a face on a `Sheet`, in the coordinates of the face (see `sheet`).

`drawn.draw_face` calls them in this order. Read `person` next.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from face_data.drawn.person import Muscles, Person
from face_data.drawn.sheet import (
    CIRCLE,
    Sheet,
    area_between,
    circle,
    moved_down,
    rgb,
    smooth,
    symmetric_line,
    symmetric_outline,
)

ALONG = np.linspace(-1, 1, 17)  # from one corner of an eye or a mouth to the other
ARCH = (1 - ALONG**2) ** 0.7


def head_outline(person: Person, muscles: Muscles) -> np.ndarray:
    width, drop = person.head_width, 0.14 * muscles.jaw_drop
    chin, jaw = person.chin_length + drop, (person.jaw * width, 0.64 + drop / 2)
    crown = ((0, -1.0), (0.52 * width, -0.91), (0.88 * width, -0.6), (width, -0.15))
    return symmetric_outline([*crown, (person.cheek * width, 0.25), jaw, (person.chin * width, 0.92 * chin), (0, chin)])


def draw_head(sheet: Sheet, person: Person, muscles: Muscles, clothes: np.ndarray) -> None:
    """The head with ears, neck and clothes, and the hair behind it."""
    width = person.head_width
    if person.hair_style == "long":
        fall = [(0, -1.1), (0.64 * width, -1.0), (1.1 * width, -0.6), (1.24 * width, 0.1), (1.3 * width, 0.8)]
        sheet.fill(symmetric_outline([*fall, (1.1 * width, 1.35), (0, 1.4)]), person.hair * 0.7, lift=None)
    elif person.hair_style == "bun":
        sheet.fill(circle(0, -1.16, 0.3, 0.24), person.hair * 0.85, lift=None)
    neck = 0.62 * width
    sheet.fill([(-neck, 0.3), (neck, 0.3), (1.05 * neck, 1.6), (-1.05 * neck, 1.6)], person.skin * 0.78, lift=None)
    shoulders = [(0, 1.4), (1.02 * neck, 1.16), (1.2, 1.4), (1.7, 1.9), (1.9, 3.5), (0, 3.5)]
    sheet.fill(symmetric_outline(shoulders), clothes, lift=None)
    for side in (-width, width):
        sheet.fill(circle(side, 0.08, person.ear * 0.75, person.ear * 1.25), person.skin * 0.9, lift=None)
        sheet.fill(circle(1.03 * side, 0.08, person.ear * 0.4, person.ear * 0.8), person.skin * 0.72, lift=None)
    draw_skin(sheet, person, muscles)
    for spots, radius in ((person.freckles, 0.013), (person.mole, 0.025)):
        for spot in spots:
            sheet.fill(circle(*spot, radius), person.skin * 0.6, 0.7)


def draw_skin(sheet: Sheet, person: Person, muscles: Muscles) -> None:
    """The skin with shadows, highlights and red cheeks; it is drawn at a quarter of the size and blurred."""
    shrink = 4
    size = (sheet.size // shrink,) * 2
    shadow, light, blush = (Image.new("L", size) for _ in range(3))

    def blob(mask: Image.Image, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        pixels = sheet.project(circle(x, y, rx, ry)) / shrink
        ImageDraw.Draw(mask).polygon(pixels.ravel().tolist(), fill=round(255 * strength))

    outline = sheet.project(head_outline(person, muscles), None)
    rim = (outline / shrink).ravel().tolist()
    if person.beard == "stubble":
        area = sheet.project(beard_area(person, muscles)) / shrink
        ImageDraw.Draw(shadow).polygon(area.ravel().tolist(), fill=70)
    ImageDraw.Draw(shadow).line(rim, fill=120, width=round(sheet.scale * 0.13 / shrink))
    for side in (-1, 1):
        blob(shadow, side * person.eye_distance, -0.02, 0.21, 0.13, 0.22 + 0.12 * muscles.brow_lowerer)
        blob(shadow, side * 0.11, -0.06, 0.05, 0.1, 0.26 + 0.2 * muscles.brow_lowerer)
        blob(light, side * 0.38, 0.2 - 0.05 * muscles.cheek_raiser, 0.13, 0.07, 0.3 + 0.25 * muscles.cheek_raiser)
        blob(blush, side * 0.43, 0.33 - 0.06 * muscles.cheek_raiser, 0.15, 0.11, 0.25 + 0.25 * muscles.cheek_raiser)
    blob(shadow, 0, person.nose_length + 0.07, person.nose_width, 0.045, 0.35)
    blob(shadow, 0, 0.75 + 0.1 * muscles.jaw_drop, 0.16, 0.035, 0.3)
    blob(light, 0, -0.55, 0.34, 0.16, 0.25)
    blob(light, 0, 0.9 * person.chin_length + 0.12 * muscles.jaw_drop, 0.1, 0.05, 0.25)
    small = Image.new("RGB", size, rgb(person.skin))
    tones = (person.skin * (0.45, 0.36, 0.34), person.skin * (0.95, 0.6, 0.56), person.skin * 1.25 + 18)
    for mask, tone in zip((shadow, blush, light), tones, strict=True):
        small.paste(rgb(tone), mask=mask.filter(ImageFilter.GaussianBlur(sheet.scale * 0.05 / shrink)))
    silhouette = Image.new("L", sheet.image.size)
    ImageDraw.Draw(silhouette).polygon(outline.ravel().tolist(), fill=255)
    sheet.image.paste(small.resize(sheet.image.size, Image.Resampling.BILINEAR), mask=silhouette)


def draw_wrinkles(sheet: Sheet, person: Person, muscles: Muscles, mouth: np.ndarray) -> None:
    """The wrinkles that muscles cause: on the forehead, at the nose, beside the eyes, and from nose to mouth."""
    m, fold = muscles, person.skin * 0.58
    for i in range(3):
        y, reach = -0.45 - 0.07 * i, 0.16 + 0.2 * m.outer_brow_raiser
        across_brow = [(-reach, y + 0.01), (0, y - 0.01), (reach, y + 0.01)]
        sheet.stroke(across_brow, 0.018, fold, 0.6 * m.inner_brow_raiser - 0.15)
    for side in ((-1, 1), (1, 1)):
        frown = np.array([(0.045, -0.3), (0.04, -0.2), (0.055, -0.1)])
        sheet.stroke(frown * side, 0.022, fold, 0.8 * m.brow_lowerer - 0.15)
        for y in (0.02, 0.09):
            nose_wrinkle = np.array([(0.02, y + 0.02), (0.09, y - 0.02)])
            sheet.stroke(nose_wrinkle * side, 0.02, fold, 0.9 * m.nose_wrinkler - 0.15, lift=0.08)
        outer = person.eye_distance + person.eye_width
        for i in (-1, 0, 1):
            crows_foot = np.array([(outer + 0.03, 0.02 + 0.025 * i), (outer + 0.11, 0.02 + 0.06 * i)])
            sheet.stroke(crows_foot * side, 0.014, fold, 0.6 * m.cheek_raiser - 0.15)
        wing = np.array((person.nose_width + 0.03, person.nose_length - 0.05 - 0.04 * m.nose_wrinkler))
        corner = mouth[-1] + (0.05, 0.01)
        bulge = (wing + corner) / 2 + (0.05, -0.02)
        depth = 0.12 + 0.6 * max(m.lip_corner_puller, m.nose_wrinkler) + 0.2 * m.lip_corner_depressor
        sheet.stroke(np.array((wing, bulge, corner)) * side, 0.024, fold, depth)


def draw_eyes(sheet: Sheet, person: Person, muscles: Muscles, gaze: np.ndarray) -> None:
    m, height, line = muscles, person.eye_height, person.skin * 0.28
    # the part by which the brows lower the upper lid at its outer and at its inner corner
    outer_drop = 0.3 * m.inner_brow_raiser * (1 - m.upper_lid_raiser) * (1 + ALONG) / 2
    inner_drop = 0.45 * m.brow_lowerer * (1 - m.inner_brow_raiser) * (1 - ALONG) / 2
    narrowed = 0.3 * m.lid_tightener + 0.3 * m.cheek_raiser + 0.2 * m.nose_wrinkler
    upper = -height * ARCH * (1 + 0.75 * m.upper_lid_raiser - narrowed) * (1 - outer_drop - inner_drop)
    lower = height * ARCH * (0.85 + 0.2 * m.upper_lid_raiser - 0.5 * m.lid_tightener - 0.75 * m.cheek_raiser)
    lower = np.maximum(lower, upper + 0.3 * height * ARCH)
    for side in (-1, 1):
        middle = side * person.eye_distance
        corners = np.stack((middle + side * ALONG * person.eye_width, -person.eye_tilt * ALONG), axis=1)
        upper_lid, lower_lid = moved_down(corners, upper), moved_down(corners, lower)
        sheet.fill(area_between(upper_lid, lower_lid), (244, 242, 238))
        for radius, colour in ((0.07, person.iris * 0.6), (0.06, person.iris), (0.028, (12, 12, 12))):
            disc = radius * ALONG
            bow = np.sqrt(radius**2 - disc**2)
            position = (disc + side * gaze[0]) / person.eye_width  # on the scale of ALONG
            top, bottom = (np.interp(position, ALONG, lid[:, 1]) for lid in (upper_lid, lower_lid))
            x = middle + side * disc + gaze[0]
            # the lids cover the rest of the disc
            edges = (np.stack((x, (gaze[1] + sign * bow).clip(top, bottom)), axis=1) for sign in (-1, 1))
            sheet.fill(area_between(*edges), colour)
        sheet.fill(circle(middle + gaze[0] - 0.02, gaze[1] - 0.015, 0.012), (255, 255, 255), 0.9)
        sheet.stroke(upper_lid[::4], 0.03 + 0.015 * person.lashes, line, 0.95, ends=0.4)
        sheet.stroke(lower_lid[::4], 0.012, line, 0.5, ends=0.4)
        sheet.stroke(upper_lid[2::4] - (0, 0.035 + 0.02 * m.upper_lid_raiser), 0.012, person.skin * 0.6, 0.7)
        pouch = moved_down(corners, lower.clip(0) + 0.05)[3:-2:4]
        sheet.stroke(pouch, 0.016, person.skin * 0.65, 0.15 + 0.5 * max(m.cheek_raiser, m.lid_tightener))


def draw_brows(sheet: Sheet, person: Person, muscles: Muscles) -> None:
    m, y, x = muscles, -person.brow_height, person.eye_distance
    lowered = m.brow_lowerer * (1 - 0.7 * m.inner_brow_raiser)  # AU1 and AU4 together mainly tilt the brow
    inner = y - 0.14 * m.inner_brow_raiser + 0.13 * lowered + 0.05 * m.nose_wrinkler
    middle = y - person.brow_arch - 0.07 * m.inner_brow_raiser - 0.09 * m.outer_brow_raiser + 0.06 * lowered
    outer = y + 0.03 - 0.12 * m.outer_brow_raiser + 0.03 * m.inner_brow_raiser - 0.02 * lowered
    curve = np.array(((x - 0.17 - 0.04 * m.brow_lowerer, inner), (x + 0.02, middle), (x + 0.2, outer)))
    colour, thickness = np.minimum(person.hair * 0.75, person.skin * 0.5), person.brow_thickness
    for side in ((-1, 1), (1, 1)):
        sheet.stroke(curve * side, thickness * np.linspace(1.25, 0.7, 13), colour, 0.95, lift=0.03, ends=0.45)


def draw_nose(sheet: Sheet, person: Person, muscles: Muscles) -> None:
    shadow, light = person.skin * 0.58, person.skin * 1.15 + 12
    base = person.nose_length - 0.03 * muscles.nose_wrinkler
    width = person.nose_width * (1 + 0.2 * muscles.nose_wrinkler + 0.12 * muscles.lip_corner_puller)
    sheet.stroke([(0.0, -0.05), (0.0, 0.1), (0.0, base - 0.1)], 0.06, light, 0.4, lift=0.12)
    sheet.fill(circle(0, base - 0.05, 0.045, 0.04), light, 0.5, lift=0.2)
    for side in ((-1, 1), (1, 1)):
        bridge = np.array([(0.075, -0.08), (0.055, 0.08), (0.08, base - 0.12)])
        wing = np.array([(0.75 * width, base - 0.1), (width, base - 0.03), (0.8 * width, base + 0.02)])
        sheet.stroke(bridge * side, 0.02, shadow, 0.3, lift=0.06)
        sheet.stroke(wing * side, 0.026, shadow, 0.85, lift=0.08)
        sheet.fill(circle(side[0] * 0.5 * width, base + 0.01, 0.3 * width, 0.018), person.skin * 0.3, 0.9, lift=0.12)
    septum = [(-0.3 * width, base + 0.02), (0, base + 0.04), (0.3 * width, base + 0.02)]
    sheet.stroke(septum, 0.02, shadow, 0.8, lift=0.14)


def mouth_line(person: Person, muscles: Muscles) -> np.ndarray:
    """The line between the closed lips, from the left to the right corner: (17, 2)."""
    m = muscles
    stretch = 1 + 0.35 * m.lip_corner_puller + 0.3 * m.lip_stretcher - 0.12 * m.lip_tightener - 0.2 * m.jaw_drop
    corners = -0.17 * m.lip_corner_puller + 0.13 * m.lip_corner_depressor + 0.02 * m.lip_stretcher
    height = 0.6 + 0.03 * m.jaw_drop - 0.02 * m.nose_wrinkler
    return np.stack((person.mouth_width * stretch * ALONG, height + corners * (ALONG**2 - 0.45)), axis=1)


def draw_mouth(sheet: Sheet, person: Person, muscles: Muscles, line: np.ndarray) -> None:
    m = muscles
    opening = ARCH + m.lip_stretcher * (1 - ALONG**6 - ARCH)  # AU20 makes the opening square
    parted = m.lips_part * (0.02 + 0.08 * m.lip_corner_puller + 0.05 * m.lip_stretcher + 0.02 * m.nose_wrinkler)
    up = opening * (0.35 * parted + 0.05 * m.jaw_drop + 0.05 * m.nose_wrinkler * m.lips_part)
    down = opening * (0.65 * parted + 0.19 * m.jaw_drop)
    upper, lower, gap = moved_down(line, -up), moved_down(line, down), up + down
    sheet.fill(area_between(upper, lower), (66, 18, 20), lift=0.02)
    if gap.max() > 0.02:
        teeth = np.minimum(gap, 0.045 + 0.05 * max(m.lip_corner_puller, m.lip_stretcher))
        sheet.fill(area_between(upper, moved_down(upper, teeth)), (240, 236, 226), lift=0.02)
        tongue = moved_down(lower, -0.35 * gap * ARCH)
        sheet.fill(area_between(tongue, lower), (176, 84, 84), m.jaw_drop, lift=0.02)
    thickness = ARCH * person.lip_height * (1 - 0.6 * m.lip_tightener) * (1 - 0.25 * m.lip_corner_puller)
    bow = 1 - 0.3 * np.exp(-((ALONG / 0.15) ** 2))
    bottom = moved_down(lower, 1.2 * thickness)
    sheet.fill(area_between(moved_down(upper, -0.9 * bow * thickness), upper), person.lips * 0.85, lift=0.03)
    sheet.fill(area_between(lower, bottom), person.lips, lift=0.03)
    sheet.stroke(moved_down(lower, 0.5 * thickness)[6:-6:2], 0.018, person.lips * 1.2, 0.5, lift=0.04)
    if gap.max() <= 0.02:
        sheet.stroke(upper[::4], 0.022, person.skin * 0.25, 0.95, lift=0.03, ends=0.5)
    chin = bottom[len(ALONG) // 2] + np.array([(-0.1, 0.09), (0, 0.06), (0.1, 0.09)])
    sheet.stroke(chin, 0.02, person.skin * 0.65, 0.1 + 0.5 * max(m.lip_corner_depressor, m.lip_tightener))


def beard_area(person: Person, muscles: Muscles) -> np.ndarray:
    width, drop = person.head_width, 0.14 * muscles.jaw_drop
    chin = person.chin_length + drop
    jaw = [(person.chin * width, 0.93 * chin), (person.jaw * width, 0.66 + drop / 2)]
    jaw += [(0.96 * person.cheek * width, 0.3), (0.97 * width, 0.1)]
    cheeks = [(0, 0.47), (0.2, 0.46), (0.36, 0.5), (0.6 * width, 0.35), (0.95 * width, 0.1)]
    return area_between(smooth(symmetric_line(cheeks)), smooth(symmetric_line([(0, chin + 0.03), *jaw])))


def draw_beard(sheet: Sheet, person: Person, muscles: Muscles, line: np.ndarray) -> None:
    """The beard. It is drawn before the mouth, which covers a part of it."""
    drop, colour = 0.14 * muscles.jaw_drop, person.hair * 0.8
    chin = person.chin_length + drop
    if person.beard == "full":
        sheet.fill(beard_area(person, muscles), colour, 0.9)
    if person.beard == "goatee":
        tuft = [(0, 0.78 + drop), (0.14, 0.78 + drop), (0.17, chin - 0.08), (0, chin + 0.05)]
        sheet.fill(symmetric_outline(tuft), colour, 0.9)
    if person.beard in ("moustache", "goatee"):
        lip = line[len(ALONG) // 2, 1] - 0.1 - 0.05 * muscles.jaw_drop
        sheet.stroke(
            symmetric_line([(0, lip - 0.01), (0.12, lip), line[-1] + (0.02, -0.05)]), 0.075, colour, 0.9, lift=0.03
        )


def hairline(person: Person) -> np.ndarray:
    """The line at which the hair begins, from the left temple over the forehead to the right temple: (m, 2)."""
    style, y, parting = person.hair_style, person.hairline, person.parting
    middle = {"fringe": (0, -0.42), "parted": (0.5 * parting, y - 0.14), "long": (0.3 * parting, y - 0.18)}
    temple = {
        "fringe": [(0.4, -0.42), (0.84, -0.3), (0.93, -0.05)],
        "long": [(0.55, y + 0.08), (0.86, -0.2), (0.96, 0.3)],
    }
    usual = [(0.5, y), (0.86, -0.4), (0.94, -0.1)]
    line = symmetric_line([middle.get(style, (0, y - 0.05)), *temple.get(style, usual)])
    if style == "swept":
        line[2:5, 1] += 0.2 * parting * line[2:5, 0]
    return smooth(line * (person.head_width, 1))


def draw_hair(sheet: Sheet, person: Person) -> None:
    """The hair above the face: an area from the hairline to the crown, with volume and strands."""
    style, width = person.hair_style, person.head_width
    if style == "bald":
        return
    rng = np.random.default_rng(person.number)
    volume = {"cropped": 0.03, "bun": 0.06, "swept": 0.16, "curly": 0.16}.get(style, 0.1)
    crown = [(0, -1 - volume), (0.52, -0.91 - volume), (0.9 + volume / 2, -0.62), (1 + 0.7 * volume, -0.1)]
    skull, brow = smooth(symmetric_line(crown) * (width, 1)), hairline(person)
    sheet.fill(area_between(skull, brow), person.hair, 0.6 if style == "cropped" else 1)
    if style == "long":
        inside = [(0.86, -0.3), (0.92, 0.2), (0.95, 0.8), (1.05, 1.25)]
        lock = smooth([*inside, (1.28, 1.1), (1.24, 0.5), (1.16, -0.1), (1, -0.5)], closed=True)
        for side in (-width, width):
            sheet.fill(lock * (side, 1), person.hair, lift=None)
    if style == "curly":
        for place, radius in [(p * 0.98, 0.15) for p in skull[::3]] + [(p - (0, 0.06), 0.1) for p in brow[3:-3:4]]:
            sheet.fill(circle(*place, radius), person.hair * rng.uniform(0.85, 1.1))
    elif style != "cropped":
        for share in np.linspace(0.1, 0.9, 14):
            root, tip = skull[int(share * len(skull))], brow[int(share * len(brow))]
            strand = [root * 0.97, (root + tip) / 2 + rng.normal(0, 0.02, 2), tip]
            sheet.stroke(strand, 0.02, person.hair * rng.choice((0.72, 1.25)), 0.5, ends=0.1)


def draw_glasses(sheet: Sheet, person: Person) -> None:
    if person.glasses == "none":
        return
    power = 1.0 if person.glasses == "round" else 0.55  # exponent of the superellipse
    unit = np.sign(CIRCLE) * np.abs(CIRCLE) ** power
    around = np.append(unit, unit[:1], axis=0)
    inner, outer = person.eye_distance - 0.22, person.eye_distance + 0.22
    for side in (-1, 1):
        middle = (side * person.eye_distance, 0.03)
        lens, rim = around * (0.205, 0.155) + middle, around * (0.235, 0.185) + middle
        sheet.fill(lens, (225, 235, 245), 0.12, lift=0.1)
        sheet.fill(area_between(lens, rim), person.frame, lift=0.1)
        sheet.stroke([(side * outer, -0.02), (side * person.head_width, -0.04)], 0.03, person.frame, ends=1)
    sheet.stroke([(-inner, 0.0), (0, -0.03), (inner, 0.0)], 0.032, person.frame, lift=0.14, ends=1)
