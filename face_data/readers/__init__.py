"""Readers of published corpora: each one reads the publisher's folder or archive and yields `Photograph`s.

`face_data.command` calls them by their names in READERS and passes the photographs to `face_data.prepare`. To add a
corpus, write a function that yields `Photograph`s in a fixed order, and add it to READERS. Read `source` next.
"""

from face_data.readers.expressions import read_fer2013, read_ferplus, read_london
from face_data.readers.generic import read_folder, read_hub, read_unlabelled
from face_data.readers.identities import read_casia_webface, read_celeba, read_ms1m, read_vggface2, read_ytf
from face_data.readers.insightface_bins import NAMES as BIN_NAMES
from face_data.readers.insightface_bins import read_bin
from face_data.readers.lfw import read_facial_expressions, read_lfw
from face_data.readers.posed import read_jaffe, read_kdef
from face_data.readers.rated import read_affectnet, read_emonet_face, read_raf_db
from face_data.readers.sequences import read_ckplus, read_oulucasia
from face_data.readers.source import Photograph
from face_data.readers.synthetic import read_dcface, read_digiface, read_hsface

__all__ = ["BINS", "READERS", "Photograph"]

BINS = tuple(f"{name}_bin" for name in BIN_NAMES)  # InsightFace's verification files

READERS = {
    "lfw": read_lfw,
    "facial_expressions": read_facial_expressions,
    "ferplus": read_ferplus,
    "fer2013": read_fer2013,
    "ckplus": read_ckplus,
    "oulucasia": read_oulucasia,
    "ms1m": read_ms1m,
    "casia_webface": read_casia_webface,
    "vggface2": read_vggface2,
    "celeba": read_celeba,
    "ytf": read_ytf,
    "london": read_london,
    "raf_db": read_raf_db,
    "affectnet": read_affectnet,
    "kdef": read_kdef,
    "jaffe": read_jaffe,
    "emonet_face": read_emonet_face,
    **dict.fromkeys(BINS, read_bin),
    "digiface": read_digiface,
    "dcface": read_dcface,
    "hsface": read_hsface,
    "folder": read_folder,
    "unlabelled": read_unlabelled,
    "hub": read_hub,
}
