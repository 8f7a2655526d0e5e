"""The comparison of a corpus with the published numbers in `describe`."""

import pytest

from face_data.expected import COMPLETE, PUBLISHED, comparison
from face_data.table import CORPUS_EXPRESSIONS

WHOLE = {
    layout: counts | {what: COMPLETE[layout, what][0] for what in counts if (layout, what) in COMPLETE}
    for layout, (_, counts) in PUBLISHED.items()
}


def test_what_is_published_is_what_is_counted():
    names = {"photographs", "people", "videos", *CORPUS_EXPRESSIONS}
    assert all(set(counts) <= names for _, counts in PUBLISHED.values())
    assert all(what in PUBLISHED[layout][1] for layout, what in COMPLETE)
    assert sum(WHOLE["ckplus"][name] for name in CORPUS_EXPRESSIONS) == 1_308
    assert (
        sum(WHOLE["fer2013"][name] for name in CORPUS_EXPRESSIONS if name != "contempt")
        == WHOLE["fer2013"]["photographs"]
    )


def test_a_complete_ckplus_differs_by_a_misprint_and_by_people_without_labels():
    happy, people = "happy: 207 here, 147 in the paper's Table 1", "people: 118 here, 123 in the paper's Table 1"
    sentences = comparison("ckplus", WHOLE["ckplus"])
    assert sentences[0].startswith(people) and sentences[1].startswith(happy) and "misprint" in sentences[1]
    assert sentences[2] == (
        "as in the paper's Table 1: neutral 327, anger 135, disgust 177, fear 75, sad 84, surprise 249, contempt 54"
    )
    assert len(sentences) == 3 and not any("missing" in sentence for sentence in sentences)


def test_a_complete_oulucasia_cannot_have_the_printed_people_and_neutral_faces():
    people, neutral, others = comparison("oulucasia", WHOLE["oulucasia"])
    assert people.startswith("people: 80 here, 560 in the paper's Table 1 (Oulu-CASIA has 80 people")
    assert neutral.startswith("neutral: 480 here, 560 in the paper's Table 1 (80 people show six expressions each")
    assert others.startswith("as in the paper's Table 1: anger 240, disgust 240")


def test_what_is_missing_is_said():
    found = WHOLE["ckplus"] | {"happy": 147, "fear": 72, "sad": 85, "contempt": 0}
    said = {sentence.split(":")[0]: sentence for sentence in comparison("ckplus", found)}
    assert "and 207 in a complete corpus (a misprint" in said["happy"] and "60 missing" in said["happy"]
    assert said["fear"] == (
        "fear: 72 here, 75 in the paper's Table 1: 3 missing, so the source is not the complete corpus of that release"
    )
    assert "1 too many" in said["sad"] and "54 missing" in said["contempt"]


@pytest.mark.parametrize("layout", ["lfw", "ytf", "fer2013", "vggface2", "casia_webface", "celeba"])
def test_complete_corpora_agree_with_their_publishers(layout):
    (sentence,) = comparison(layout, WHOLE[layout])
    assert sentence.startswith("as in the publisher's description: ")
    less = comparison(layout, WHOLE[layout] | {"people": 2, "photographs": 3})
    assert any("missing, so the source is not the complete corpus" in sentence for sentence in less)
