"""What is known of the corpora that may train or judge a network: title, publisher's terms, reference."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Corpus:
    title: str
    terms: str
    reference: str


CORPORA = {
    "lfw": Corpus(
        "Labeled Faces in the Wild",
        "research benchmark; the photographs belong to their owners",
        "Huang, Ramesh, Berg, Learned-Miller, University of Massachusetts Amherst, Technical Report 07-49, 2007",
    ),
    "ferplus": Corpus(
        "FERPlus",
        "labels MIT; FER2013's photographs were collected from the web: research only",
        "Barsoum, Zhang, Canton Ferrer, Zhang, ICMI 2016",
    ),
    "facial_expressions": Corpus(
        "muxspace facial_expressions",
        "labels Apache-2.0; the photographs are third-party: research only",
        "github.com/muxspace/facial_expressions",
    ),
    "london": Corpus(
        "Face Research Lab London Set",
        "CC BY 4.0; signed consent for use in studies",
        "DeBruine and Jones, doi 10.6084/m9.figshare.5047666, 2017",
    ),
    "raf_db": Corpus(
        "RAF-DB",
        "non-commercial research",
        "Li, Deng, Du, CVPR 2017",
    ),
    "affectnet": Corpus(
        "AffectNet",
        "non-commercial research",
        "Mollahosseini, Hasani, Mahoor, IEEE Trans. Affective Computing, 2017",
    ),
    "kdef": Corpus(
        "Karolinska Directed Emotional Faces",
        "non-commercial research",
        "Lundqvist, Flykt, Öhman, Karolinska Institutet, 1998",
    ),
    "jaffe": Corpus(
        "Japanese Female Facial Expression",
        "non-commercial research",
        "Lyons, Akamatsu, Kamachi, Gyoba, 1998",
    ),
    "emonet_face": Corpus(
        "EmoNet-Face",
        "CC BY 4.0; drawn by models, no person's photograph is in it",
        "Schuhmann et al., 2025",
    ),
    "digiface": Corpus(
        "DigiFace-1M",
        "non-commercial research; rendered, no person's photograph is in it",
        "Bae et al., WACV 2023",
    ),
    "dcface": Corpus(
        "DCFace",
        "its generator was trained on CASIA-WebFace: research only",
        "Kim, Liu, Jain, Liu, CVPR 2023",
    ),
    "hsface": Corpus(
        "HSFace",
        "its generator was trained on WebFace4M: research only",
        "Wu et al., ICLR 2025",
    ),
    "unlabelled": Corpus(
        "faces without labels",
        "of MEBeauty (split mebeauty): non-commercial research, photographs of free stock sites; of faker-js (split "
        "portraits): CC0 1.0, synthetic portraits of nobody",
        "github.com/fbplab/MEBeauty-database; github.com/faker-js/assets-person-portrait",
    ),
    "drawn": Corpus(
        "faces drawn by this project", "no person's photograph is in it", "`python -m face_data synthesize`"
    ),
}
"""The corpus's own name, its layout's or its id on the Hub -> what it is."""


def corpus(name: str) -> Corpus:
    """What is known of a corpus; of one that is not listed, that its terms are not known."""
    return CORPORA.get(name) or Corpus(name, "not recorded here: ask its publisher before you use the weights", "–")
