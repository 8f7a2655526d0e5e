"""Names of prepared corpora, and checks that can be made before the libraries that read them are imported.

Called by every `__main__`; next: `table`.
"""

import json
from pathlib import Path


class CorpusError(ValueError):
    """The folder is not a prepared corpus, or not the one that was asked for; the message says what to do."""


def split_corpus(text: str) -> tuple[str, list[str] | None]:
    """`corpora/lfw:1,2` -> ("corpora/lfw", ["1", "2"]); without a colon, every split."""
    folder, colon, splits = text.partition(":")
    return folder, splits.split(",") if colon else None


def require_corpus(corpus: str | Path) -> None:
    """Raise CorpusError for what is neither a folder nor, by its form, the id of a dataset on the Hub."""
    folder = Path(corpus)
    on_hub = str(corpus).count("/") == 1 and not str(corpus).startswith((".", "/"))
    if not folder.is_dir() and (folder.exists() or not on_hub):
        raise CorpusError(
            f"{corpus}: no such folder; write a corpus with `python -m face_data prepare` or `synthesize`"
        )


def read_summary(folder: str | Path) -> dict:
    """The `corpus.json` of a prepared corpus: layout, options, counts, and what was skipped and why."""
    path = Path(folder) / "corpus.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{path} is missing: {folder} is not a prepared corpus") from None
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path} is damaged ({error}); prepare the corpus again") from None
