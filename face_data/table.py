"""A prepared corpus as a table: Parquet shards with one aligned face per row. `corpus.json` lies beside them.

`prepare` writes it; the training and the evaluation load it with `load_corpus`. Read `prepare` next.
"""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from addresses import Remote, is_address, join
from face_data.corpus import SUMMARY, corpus_folder, one_line, require_corpus
from face_data.corpus import CorpusError as CorpusError
from face_data.corpus import read_summary as read_summary
from face_data.corpus import split_corpus as split_corpus

SHARDS = "part-*.parquet"
# The labels of corpora (the paper's Table 1). A new network predicts `modeling_facelivenet.EXPRESSIONS` by default.
CORPUS_EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happy", "sad", "surprise", "contempt")

FEATURES = Features(
    {
        "image": Image(),  # the aligned RGB face, encoded
        "key": Value("string"),  # the publisher's name of the photograph
        "identity": Value("string"),  # null if unknown
        "expression": ClassLabel(names=list(CORPUS_EXPRESSIONS)),  # null without a label
        "expression_votes": List(Value("float32")),  # 8 probabilities in CORPUS_EXPRESSIONS' order, or null
        "split": Value("string"),  # the publisher's fold or split
        "source": Value("string"),  # the layout of its corpus
        "box": List(Value("float32"), length=4),  # left, top, right, bottom in the upright photograph, pixels
        # the region of `image`, in the same pixels; null if aligned by landmarks
        "crop": List(Value("float32"), length=4),
        # null if no face was found and the complete photograph is the crop
        "landmarks": List(List(Value("float32"), length=2), length=5),
        "detection_probability": Value("float32"),  # 0 in this case
    }
)


def features_with(attributes: Sequence[str]) -> Features:
    """The columns of a corpus with these attributes, which are text or null.

    Raises:
        CorpusError: the name of an attribute is empty, or is that of a column in FEATURES.
    """
    for name in attributes:
        if not name.strip() or name in FEATURES:
            raise CorpusError(f"attribute {name!r}: its name must not be empty or one of {', '.join(FEATURES)}")
    return Features(FEATURES | {name: Value("string") for name in attributes})


def load_corpus(
    corpus: str | Path, splits: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> Dataset:
    """Open a prepared corpus, from a folder, an address or a Hub dataset id.

    Args:
        corpus: folder or address that `python -m face_data prepare` wrote to, or `user/name` on the Hub. A corpus at an
            address is downloaded, but if the column "image" is not requested, only the columns are read.
        splits: only these splits (LFW: folds "1".."10"); None means all.
        columns: only these columns of FEATURES or attributes; the others are not read. None means all.

    Returns:
        a `datasets.Dataset` with the columns of FEATURES, followed by the attributes of the corpus. Images are decoded
        when they are accessed.

    Raises:
        CorpusError: no such corpus, or it is not complete, or it lacks a split or column.
    """
    columns = None if columns is None else list(columns)
    without_images = columns is not None and "image" not in columns
    if is_address(corpus) and without_images:
        remote, shards, summary = Remote(corpus), addresses_of_shards(corpus), read_summary(corpus)
        _require_complete(corpus, summary)
        _require_listed_shards(corpus, summary, shards)
        paths = [remote.path(shard.rpartition("/")[2]) for shard in shards]
        _require_columns(corpus, pq.read_schema(paths[0], filesystem=remote.file_system).names, columns)
        tables = [pq.read_table(path, columns=columns, filesystem=remote.file_system) for path in paths]
        dataset = Dataset(pa.concat_tables(tables).replace_schema_metadata(None))
    elif (folder := corpus_folder(corpus)).is_dir():
        shards, summary = shards_of(folder), read_summary(folder)
        _require_complete(corpus, summary)
        _require_listed_shards(folder, summary, shards)
        try:
            _require_columns(corpus, pq.read_schema(shards[0]).names, columns)
            dataset = Dataset.from_parquet(shards, columns=columns)
        except CorpusError:
            raise
        except Exception as error:  # Arrow and `datasets` do not name the shard
            raise _damaged_shard(shards, error) from error
    else:
        require_corpus(corpus)
        options = {} if columns is None else {"columns": columns}
        try:
            dataset = load_dataset(str(corpus), split="train", **options)
        except Exception as error:  # `datasets`, the Hub and Arrow raise many unrelated types
            raise CorpusError(
                f"{corpus}: no such folder, and no dataset on the Hub that can be read ({one_line(error)})"
            ) from error
        _require_columns(corpus, dataset.column_names, columns)
        _require_all_photographs(corpus, len(dataset))
    dataset = _typed(dataset)
    return dataset if splits is None else dataset.select(rows_of_splits(dataset, corpus, splits))


def _damaged_shard(shards: Sequence[str], error: Exception) -> CorpusError:
    """An error that names the shard that cannot be read, or the folder if all schemas can be read."""
    for shard in shards:
        try:
            pq.read_schema(shard)
        except (pa.ArrowException, OSError) as cause:
            return CorpusError(f"{shard} is damaged ({cause}); remove it and run the preparation again")
    return CorpusError(f"{Path(shards[0]).parent} is damaged ({one_line(error)}); prepare it again")


def _require_complete(corpus: str | Path, summary: dict) -> None:
    if not summary.get("complete"):
        raise CorpusError(f"{corpus}: its preparation was interrupted; run the same command again to finish it")
    if summary.get("prepared") == 0:
        raise CorpusError(f"{corpus}: it is empty, because no face was found; {corpus}/corpus.json has the reasons")


def _require_listed_shards(corpus: str | Path, summary: dict, shards: Sequence[str]) -> None:
    """Raise CorpusError unless these are exactly the shards that corpus.json lists."""
    names = {shard.replace("\\", "/").rpartition("/")[2] for shard in shards}
    written = set(summary.get("sha256") or names)  # corpora of earlier versions do not list their shards
    if differing := sorted(written ^ names):
        raise CorpusError(
            f"{join(corpus, differing[0])} {'is missing' if differing[0] in written else 'is not in corpus.json'}: "
            "run the preparation again to complete the corpus"
        )


def _require_all_photographs(dataset: str | Path, photographs: int) -> None:
    """Raise CorpusError if the `corpus.json` of a dataset on the Hub counts other photographs than its shards have."""
    if (path := hub_file(dataset, SUMMARY)) is None:
        return  # another tool wrote the dataset
    prepared = read_summary(path.parent).get("prepared")
    if prepared != photographs:
        raise CorpusError(
            f"{dataset}: it has {photographs} photographs, but {SUMMARY} counts {prepared}: upload all shards"
        )


def hub_file(dataset: str | Path, name: str) -> Path | None:
    """The local copy of a file of a dataset on the Hub; None if the dataset does not have it."""
    try:
        return Path(hf_hub_download(str(dataset), name, repo_type="dataset"))
    except EntryNotFoundError:
        return None


def attributes_of(corpus: Dataset) -> list[str]:
    """Names of the columns that are not in FEATURES."""
    return [name for name in corpus.column_names if name not in FEATURES]


def _require_columns(corpus: str | Path, present: Sequence[str], columns: Sequence[str] | None) -> None:
    missing = [name for name in (FEATURES if columns is None else columns) if name not in present]
    if missing and columns is None:
        raise CorpusError(
            f"{corpus}: no column {', '.join(missing)}: it is not a prepared corpus, or one of an earlier version; "
            "prepare it again"
        )
    if missing:
        raise CorpusError(f"{corpus}: no column {', '.join(missing)}; it has {', '.join(present)}")


def _typed(dataset: Dataset) -> Dataset:
    """The dataset with the types of FEATURES, and text for attributes.

    Files of `prepare` already have these types. Another tool may have omitted the names of the expressions, or stored
    ages as numbers. Only then are the columns converted.
    """
    types = features_with(attributes_of(dataset))
    features = Features({name: types[name] for name in dataset.column_names})
    return dataset if dataset.features == features else dataset.cast(features)


def rows_of_splits(dataset: Dataset, corpus: str | Path, splits: Sequence[str]) -> list[int]:
    """Numbers of the rows of a corpus that are in these splits, in its order; CorpusError if a split does not exist."""
    split_of_row = column(dataset, "split")
    present, requested = set(split_of_row), set(splits)
    if missing := requested - present:
        raise CorpusError(f"{corpus}: no split {', '.join(sorted(missing))}; it has {', '.join(sorted(present))}")
    return [row for row, split in enumerate(split_of_row) if split in requested]


def shards_of(folder: str | Path) -> list[str]:
    """Paths of the Parquet files of a local corpus, in the order of their preparation."""
    return _require_shards(folder, sorted(map(str, Path(folder).glob(SHARDS))))


def addresses_of_shards(corpus: str | Path) -> list[str]:
    """Addresses of the Parquet files of a corpus at an address, in the order of their preparation."""
    names = sorted(name for name in Remote(corpus).files() if fnmatch(name, SHARDS))
    return _require_shards(corpus, [join(corpus, name) for name in names])


def _require_shards(corpus: str | Path, shards: list[str]) -> list[str]:
    if not shards:
        raise CorpusError(f"{corpus}: no {SHARDS} here; write the corpus with `python -m face_data prepare`")
    return shards


def column(corpus: Dataset, name: str) -> list:
    """The values of one column; images are not decoded."""
    return corpus.with_format("arrow")[name][:].to_pylist()


def splits_by_source(corpora: Sequence[Dataset]) -> dict[str, list[str]]:
    """Layout ("source") -> its splits in these corpora, sorted."""
    pairs = {pair for corpus in corpora for pair in zip(column(corpus, "source"), column(corpus, "split"), strict=True)}
    found: dict[str, list[str]] = {}
    for source, split in sorted(pairs):
        found.setdefault(source, []).append(split)
    return found
