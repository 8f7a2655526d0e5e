"""One small function per published corpus: from the publisher's folder or archive to a stream of photographs.

To add a corpus, write a function that yields `Photograph`s, always in the same order, and name it in READERS.
"""

from face_data.readers.expressions import read_fer2013, read_ferplus, read_london
from face_data.readers.generic import read_folder, read_hub, read_unlabelled
from face_data.readers.identities import read_casia_webface, read_celeba, read_ms1m, read_vggface2, read_ytf
from face_data.readers.lfw import read_facial_expressions, read_lfw
from face_data.readers.sequences import read_ckplus, read_oulucasia
from face_data.readers.source import Photograph

__all__ = ["READERS", "Photograph"]

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
    "folder": read_folder,
    "unlabelled": read_unlabelled,
    "hub": read_hub,
}
