"""The prepared corpus: a folder of Parquet shards with one aligned face per row, and `corpus.json` beside them.

Written by `prepare`, read by training and evaluation.
"""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset

from addresses import Remote, is_address, join
from face_data.named import CorpusError as CorpusError
from face_data.named import corpus_folder, require_corpus
from face_data.named import read_summary as read_summary
from face_data.named import split_corpus as split_corpus

SHARDS = "part-*.parquet"
# The paper's Table 1: what corpora are labelled with. A network has `modeling_facelivenet.EXPRESSIONS` by default.
CORPUS_EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happy", "sad", "surprise", "contempt")

FEATURES = Features(
    {
        "image": Image(),  # the aligned RGB face, encoded
        "key": Value("string"),  # the publisher's name of the photograph
        "identity": Value("string"),  # null where the corpus does not say
        "expression": ClassLabel(names=list(CORPUS_EXPRESSIONS)),  # null where nobody labelled it
        "expression_votes": List(Value("float32")),  # 8 probabilities in CORPUS_EXPRESSIONS' order, or null
        "split": Value("string"),  # the publisher's fold or split
        "source": Value("string"),  # the corpus it comes from
        "box": List(Value("float32"), length=4),  # left, top, right, bottom in the photograph, pixels
        "crop": List(Value("float32"), length=4),  # what the image shows, likewise; null if turned by landmarks
        "landmarks": List(List(Value("float32"), length=2), length=5),  # null where the whole picture is the crop
        "detection_probability": Value("float32"),  # 0 there
    }
)


def features_with(attributes: Sequence[str]) -> Features:
    """The columns of a corpus that has these further ones, all of them text or null.

    Raises:
        CorpusError: an attribute without a name, or with that of a column which every corpus has.
    """
    for name in attributes:
        if not name.strip() or name in FEATURES:
            raise CorpusError(f"attribute {name!r}: it needs a name of its own, beside {', '.join(FEATURES)}")
    return Features(FEATURES | {name: Value("string") for name in attributes})


def load_corpus(
    corpus: str | Path, splits: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> Dataset:
    """Open a prepared corpus, from a folder, an address or a Hub dataset id.

    Args:
        corpus: folder or address that `python -m face_data prepare` wrote to, or `user/name` on the Hub. What lies at
            an address is downloaded; of labels alone, their columns are read there.
        splits: keep only these of the publisher's splits (LFW: folds "1".."10"); None keeps all.
        columns: read only these, of FEATURES or the corpus's own, and no byte of the others; None reads all.

    Returns:
        a `datasets.Dataset` with the columns of FEATURES, and the corpus's own attributes after them; pictures are
        decoded when they are read.

    Raises:
        CorpusError: no such corpus, an unfinished one, or a split or column it does not have.
    """
    columns = None if columns is None else list(columns)
    labels_alone = columns is not None and "image" not in columns
    if is_address(corpus) and labels_alone:
        remote, shards, summary = Remote(corpus), addresses_of_shards(corpus), read_summary(corpus)
        _require_whole(corpus, summary)
        _require_shards(corpus, summary, shards)
        paths = [remote.path(shard.rpartition("/")[2]) for shard in shards]
        _require_columns(corpus, pq.read_schema(paths[0], filesystem=remote.file_system).names, columns)
        tables = [pq.read_table(path, columns=columns, filesystem=remote.file_system) for path in paths]
        dataset = Dataset(pa.concat_tables(tables).replace_schema_metadata(None))
    elif (folder := corpus_folder(corpus)).is_dir():
        shards, summary = shards_of(folder), read_summary(folder)
        _require_whole(corpus, summary)
        _require_shards(folder, summary, shards)
        try:
            _require_columns(corpus, pq.read_schema(shards[0]).names, columns)
            dataset = Dataset.from_parquet(shards, columns=columns)
        except CorpusError:
            raise
        except Exception as error:  # of Arrow and of `datasets`, which do not name the shard
            raise _about_damaged(shards, error) from error
    else:
        require_corpus(corpus)
        only = {} if columns is None else {"columns": columns}
        try:
            dataset = load_dataset(str(corpus), split="train", **only)
        except Exception as error:  # of `datasets`, of the Hub and of Arrow
            cause = " ".join(str(error).split())[:300] or type(error).__name__
            raise CorpusError(
                f"{corpus}: no such folder, and no data set on the Hub that can be read ({cause})"
            ) from error
        _require_columns(corpus, dataset.column_names, columns)
    dataset = _typed(dataset)
    return dataset if splits is None else dataset.select(rows_of_splits(dataset, corpus, splits))


def _about_damaged(shards: Sequence[str], error: Exception) -> CorpusError:
    """Names the shard that cannot be read, or the folder where each can be."""
    for shard in shards:
        try:
            pq.read_schema(shard)
        except (pa.ArrowException, OSError) as cause:
            return CorpusError(f"{shard} is damaged ({cause}); remove it and run the preparation again")
    return CorpusError(f"{Path(shards[0]).parent} is damaged ({' '.join(str(error).split())[:300]}); prepare it again")


def _require_whole(corpus: str | Path, summary: dict) -> None:
    if not summary.get("complete"):
        raise CorpusError(f"{corpus}: its preparation was interrupted; run the same command again to finish it")
    if summary.get("prepared") == 0:
        raise CorpusError(f"{corpus}: it is empty, for no photograph gave a face; {corpus}/corpus.json says why")


def _require_shards(corpus: str | Path, summary: dict, shards: Sequence[str]) -> None:
    """Raise CorpusError unless these are all shards that were written, and no others."""
    names = {shard.replace("\\", "/").rpartition("/")[2] for shard in shards}
    written = set(summary.get("sha256") or names)  # earlier versions did not say
    if differing := sorted(written ^ names):
        raise CorpusError(
            f"{join(corpus, differing[0])} {'is missing' if differing[0] in written else 'is not in corpus.json'}: "
            "run the preparation again to complete the corpus"
        )


def attributes_of(corpus: Dataset) -> list[str]:
    """Names of a corpus's own columns, beside those that every corpus has."""
    return [name for name in corpus.column_names if name not in FEATURES]


def _require_columns(corpus: str | Path, present: Sequence[str], columns: Sequence[str] | None) -> None:
    every = [name for name in FEATURES if name != "crop"]  # corpora of earlier versions have none
    missing = [name for name in (every if columns is None else columns) if name not in present]
    if missing and columns is None:
        raise CorpusError(f"{corpus}: no column {', '.join(missing)}: it is not a prepared corpus")
    if missing:
        raise CorpusError(f"{corpus}: no column {', '.join(missing)}; it has {', '.join(present)}")


def _typed(dataset: Dataset) -> Dataset:
    """The dataset with the types of FEATURES, and text for its own columns.

    Parquet that `prepare` wrote says so itself. Another tool may have left out that expressions have names, or stored
    ages as numbers; only then is everything written anew.
    """
    every = features_with(attributes_of(dataset))
    features = Features({name: every[name] for name in dataset.column_names})
    return dataset if dataset.features == features else dataset.cast(features)


def rows_of_splits(dataset: Dataset, corpus: str | Path, splits: Sequence[str]) -> list[int]:
    """Which rows of a whole corpus are in these splits, in its order; CorpusError where it has no such split."""
    known = column(dataset, "split")
    missing = set(splits) - set(known)
    if missing:
        raise CorpusError(f"{corpus}: no split {', '.join(sorted(missing))}; it has {', '.join(sorted(set(known)))}")
    wanted = set(splits)
    return [row for row, split in enumerate(known) if split in wanted]


def shards_of(folder: str | Path) -> list[str]:
    """Paths of a local corpus's Parquet files, in the order they were prepared in."""
    shards = sorted(map(str, Path(folder).glob(SHARDS)))
    if not shards:
        raise CorpusError(f"{folder}: no {SHARDS} here; write the corpus with `python -m face_data prepare`")
    return shards


def addresses_of_shards(corpus: str | Path) -> list[str]:
    """Those of the Parquet files of a corpus at an address, in the order they were prepared in."""
    names = [name for name in Remote(corpus).files() if fnmatch(name, SHARDS)]
    if not names:
        raise CorpusError(f"{corpus}: no {SHARDS} here; write the corpus with `python -m face_data prepare`")
    return [join(corpus, name) for name in sorted(names)]


def column(corpus: Dataset, name: str) -> list:
    """One column of a corpus, without decoding any picture."""
    return corpus.with_format("arrow")[name][:].to_pylist()


def splits_by_source(corpora: Sequence[Dataset]) -> dict[str, list[str]]:
    """Source of photographs -> which of its splits these corpora hold."""
    pairs = {pair for corpus in corpora for pair in zip(column(corpus, "source"), column(corpus, "split"), strict=True)}
    found: dict[str, list[str]] = {}
    for source, split in sorted(pairs):
        found.setdefault(source, []).append(split)
    return found
