"""The name of a prepared corpus on the command line, its local folder, and its summary.

Every `__main__` that reads a corpus calls it, because it imports neither PyTorch nor `datasets`. Read `table` next.
"""

import hashlib
import json
from pathlib import Path

from addresses import Remote, is_address, join, local_copy

SUMMARY = "corpus.json"
HUB_LAYOUTS = ("hub", "emonet_face")  # layouts that are read from a dataset on the Hub


class CorpusError(ValueError):
    """A corpus is missing, damaged, or does not have the required content. The message names a remedy."""


def one_line(error: Exception) -> str:
    """The text of an error of another library in one line of at most 300 characters; its type if it has no text."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def split_corpus(text: str) -> tuple[str, list[str] | None]:
    """Corpus and splits: `corpora/lfw:1,2` -> ("corpora/lfw", ["1", "2"]). None without a colon: all splits.

    The colon of an address such as `s3://…` does not count.
    """
    protocol, address, rest = text.rpartition("://")
    folder, colon, splits = rest.partition(":")
    return protocol + address + folder, splits.split(",") if colon else None


def on_hub(corpus: str | Path) -> bool:
    """Whether this can only be the id of a dataset on the Hub, because it is neither a folder nor an address."""
    return not is_address(corpus) and not Path(corpus).is_dir()


def require_corpus(corpus: str | Path) -> None:
    """Raise CorpusError if this is neither a folder, nor a corpus at an address, nor has the form of a Hub id."""
    if is_address(corpus):
        read_summary(corpus)
        return
    is_id = str(corpus).count("/") == 1 and not str(corpus).startswith((".", "/"))
    if on_hub(corpus) and (Path(corpus).exists() or not is_id):
        raise CorpusError(
            f"{corpus}: no such folder; write a corpus with `python -m face_data prepare` or `synthesize`"
        )


def corpus_folder(corpus: str | Path) -> Path:
    """The folder of a corpus. For an address it is the local copy; for a dataset on the Hub it does not exist.

    Raises:
        AddressError: it cannot be downloaded. CorpusError: the checksum of a downloaded shard is wrong.
    """
    return local_copy(corpus, _check_shards)


def _check_shards(copy: Path) -> None:
    for name, expected in read_summary(copy).get("sha256", {}).items():
        if not (copy / name).exists():
            raise CorpusError(f"{name} is missing: run the preparation again to complete the corpus")
        with (copy / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise CorpusError(f"{name} is damaged, or belongs to another preparation: prepare the corpus again")


def read_summary(corpus: str | Path) -> dict:
    """The `corpus.json` of a prepared corpus: layout, options, counts, and the skipped photographs with reasons.

    Raises:
        CorpusError: it is missing or damaged.
    """
    path = join(corpus, SUMMARY)
    try:
        content = Remote(corpus).read(SUMMARY) if is_address(corpus) else Path(path).read_bytes()
        if content is None:
            raise FileNotFoundError
        summary = json.loads(content)
        if not isinstance(summary, dict):
            raise ValueError(f"it holds {str(summary)[:40]!r}")
        return summary
    except FileNotFoundError:
        raise CorpusError(f"{path} is missing: {corpus} is not a prepared corpus") from None
    except ValueError as error:
        raise CorpusError(f"{path} is damaged ({error}); prepare the corpus again") from None
