"""`describe` compares the counts of a corpus with the published numbers."""

import pytest

from face_data.expected import COMPLETE, PUBLISHED, comparison
from face_data.table import CORPUS_EXPRESSIONS

COMPLETE_COUNTS = {
    layout: counts | {kind: COMPLETE[layout, kind][0] for kind in counts if (layout, kind) in COMPLETE}
    for layout, (_, counts) in PUBLISHED.items()
}


def test_published_numbers_have_the_names_of_counts():
    names = {"photographs", "people", "videos", *CORPUS_EXPRESSIONS}
    assert all(set(counts) <= names for _, counts in PUBLISHED.values())
    assert all(kind in PUBLISHED[layout][1] for layout, kind in COMPLETE)
    assert sum(COMPLETE_COUNTS["ckplus"][name] for name in CORPUS_EXPRESSIONS) == 1_308
    assert (
        sum(COMPLETE_COUNTS["fer2013"][name] for name in CORPUS_EXPRESSIONS if name != "contempt")
        == COMPLETE_COUNTS["fer2013"]["photographs"]
    )


def test_a_complete_ckplus_differs_in_the_misprint_and_in_people_without_labels():
    happy, people = "happy: 207 here, 147 in the paper's Table 1", "people: 118 here, 123 in the paper's Table 1"
    sentences = comparison("ckplus", COMPLETE_COUNTS["ckplus"])
    assert sentences[0].startswith(people) and sentences[1].startswith(happy) and "misprint" in sentences[1]
    assert sentences[2] == (
        "as in the paper's Table 1: neutral 327, anger 135, disgust 177, fear 75, sad 84, surprise 249, contempt 54"
    )
    assert len(sentences) == 3 and not any("missing" in sentence for sentence in sentences)


def test_a_complete_oulucasia_differs_in_people_and_neutral_faces():
    people, neutral, others = comparison("oulucasia", COMPLETE_COUNTS["oulucasia"])
    assert people.startswith("people: 80 here, 560 in the paper's Table 1 (Oulu-CASIA has 80 people")
    assert neutral.startswith("neutral: 480 here, 560 in the paper's Table 1 (80 people show six expressions each")
    assert others.startswith("as in the paper's Table 1: anger 240, disgust 240")


def test_missing_photographs_are_reported():
    found = COMPLETE_COUNTS["ckplus"] | {"happy": 147, "fear": 72, "sad": 85, "contempt": 0}
    sentence_of = {sentence.split(":")[0]: sentence for sentence in comparison("ckplus", found)}
    assert "and 207 in a complete corpus (a misprint" in sentence_of["happy"] and "60 missing" in sentence_of["happy"]
    assert sentence_of["fear"] == (
        "fear: 72 here, 75 in the paper's Table 1: 3 missing, so the source is not the complete corpus of that release"
    )
    assert "1 too many" in sentence_of["sad"] and "54 missing" in sentence_of["contempt"]


@pytest.mark.parametrize("layout", ["lfw", "ytf", "fer2013", "vggface2", "casia_webface", "celeba"])
def test_complete_corpora_agree_with_the_published_numbers(layout):
    (sentence,) = comparison(layout, COMPLETE_COUNTS[layout])
    assert sentence.startswith("as in the publisher's description: ")
    sentences = comparison(layout, COMPLETE_COUNTS[layout] | {"people": 2, "photographs": 3})
    assert any("missing, so the source is not the complete corpus" in sentence for sentence in sentences)
