"""The published numbers of photographs and people of each corpus, and a comparison with a prepared corpus.

`python -m face_data describe` calls it. Read `command` next.
"""

from collections.abc import Mapping

TABLE_1, PUBLISHER, INSIGHTFACE = "the paper's Table 1", "the publisher's description", "InsightFace's list"

# layout -> source of the numbers, and the numbers of people, videos, photographs, and photographs of an expression
PUBLISHED = {
    "ckplus": (
        TABLE_1,
        dict(people=123, neutral=327, anger=135, disgust=177, fear=75, happy=147, sad=84, surprise=249, contempt=54),
    ),
    "oulucasia": (
        TABLE_1,
        dict(people=560, neutral=560, anger=240, disgust=240, fear=240, happy=240, sad=240, surprise=240),
    ),
    "lfw": (PUBLISHER, dict(photographs=13_233, people=5_749)),
    "ytf": (PUBLISHER, dict(videos=3_425, people=1_595)),
    "fer2013": (
        PUBLISHER,
        dict(photographs=35887, neutral=6198, anger=4953, disgust=547, fear=5121, happy=8989, sad=6077, surprise=4002),
    ),
    "vggface2": (PUBLISHER, dict(photographs=3_311_286, people=9_131)),
    "casia_webface": (PUBLISHER, dict(photographs=494_414, people=10_575)),
    "celeba": (PUBLISHER, dict(photographs=202_599, people=10_177)),
    "raf_db": (PUBLISHER, dict(photographs=15_339)),
    "kdef": (PUBLISHER, dict(photographs=4_900, people=70)),
    "jaffe": (PUBLISHER, dict(photographs=213, people=10)),
    "lfw_bin": (INSIGHTFACE, dict(photographs=12_000)),
    "cfp_fp_bin": (INSIGHTFACE, dict(photographs=14_000)),
    "agedb_30_bin": (INSIGHTFACE, dict(photographs=12_000)),
    "calfw_bin": (INSIGHTFACE, dict(photographs=12_000)),
    "cplfw_bin": (INSIGHTFACE, dict(photographs=12_000)),
}

# (layout, name) -> the number in a complete corpus if it differs from the published number, and the reason
COMPLETE = {
    ("ckplus", "people"): (118, "CK+ has 123 people, 118 of whom have a sequence with an emotion label"),
    ("ckplus", "happy"): (207, "a misprint, for 69 of the 327 sequences are happy and give three photographs each"),
    ("oulucasia", "people"): (80, "Oulu-CASIA has 80 people; the printed 560 repeats the number beside it"),
    ("oulucasia", "neutral"): (
        480,
        "80 people show six expressions each, so there are 480 sequences with a first frame each",
    ),
}


def comparison(layout: str, found: Mapping[str, int]) -> list[str]:
    """Sentences about the differences between a corpus and the published numbers, and a last one about the agreement.

    Args:
        layout: a key of PUBLISHED.
        found: the counts of the corpus by the names of PUBLISHED; a missing name counts as 0.
    """
    reference, published = PUBLISHED[layout]
    complete = published | {name: COMPLETE[layout, name][0] for name in published if (layout, name) in COMPLETE}
    differing = [name for name in published if not found.get(name, 0) == complete[name] == published[name]]
    sentences = [_difference(layout, name, found.get(name, 0), published[name], reference) for name in differing]
    agreeing = ", ".join(f"{name} {count:,}" for name, count in published.items() if name not in differing)
    return sentences + [f"as in {reference}: {agreeing}"] * bool(agreeing)


def _difference(layout: str, name: str, found: int, published: int, reference: str) -> str:
    complete, reason = COMPLETE.get((layout, name), (published, ""))
    sentence = f"{name}: {found:,} here, {published:,} in {reference}"
    if found == complete:
        return f"{sentence} ({reason})"
    correction = f", and {complete:,} in a complete corpus ({reason})" if reason else ""
    amount = f"{abs(found - complete):,} {'missing' if found < complete else 'too many'}"
    return f"{sentence}{correction}: {amount}, so the source is not the complete corpus of that release"
