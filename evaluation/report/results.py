"""results.json: the sections of all protocols for one checkpoint, written from dataclasses and read into them.

`Results` and the classes of its fields define the format; `python -m evaluation schema` prints the JSON schema.
`command` writes the file, `page` and `hub_card` read it. Read `protocols.sections` next.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

import atomic
from evaluation.protocols.folds import FoldsSection
from evaluation.protocols.sections import (
    AuthenticationSection,
    DegradationsSection,
    ExpressionSection,
    Section,
    SessionsSection,
    SlicesSection,
    VerificationSection,
)
from evaluation.statistics.rates import result

SCHEMA_VERSION = 1  # increased when a key is removed or changes its meaning
FILE = "results.json"


@result
class ModelRecord:
    """The checkpoint: its name on the command line, and the checksum of its weights."""

    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@result
class Results:
    """protocol -> name (corpus and splits) -> section."""

    schema_version: Literal[SCHEMA_VERSION]
    model: ModelRecord
    verification: dict[str, VerificationSection] | None = None
    expression: dict[str, ExpressionSection] | None = None
    authentication: dict[str, AuthenticationSection] | None = None
    sessions: dict[str, SessionsSection] | None = None
    degradations: dict[str, DegradationsSection] | None = None
    slices: dict[str, SlicesSection] | None = None
    folds: dict[str, FoldsSection] | None = None

    def sections(self, protocol: str) -> dict[str, Section]:
        """The sections of one protocol; empty if there are none."""
        return getattr(self, protocol) or {}


_RESULTS = TypeAdapter(Results)


def results_schema() -> dict:
    """The JSON schema of results.json."""
    return _RESULTS.json_schema()


def read_results(path: Path) -> Results:
    """Read and check a results.json.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not valid; the message names the place and the
        cause.
    """
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        location = "/".join(map(str, first_error["loc"])) or "the whole file"
        raise ValueError(
            f"{path}, {location}: {first_error['msg']}: not results of version {SCHEMA_VERSION}; evaluate again"
        ) from None


def results_so_far(folder: Path, model: ModelRecord) -> Results:
    """The content of results.json in a folder; only the model if the file does not exist yet.

    Raises:
        ValueError: the file is of other weights, or is not valid.
    """
    path = folder / FILE
    if not path.exists():
        return Results(schema_version=SCHEMA_VERSION, model=model)
    try:
        results = read_results(path)
    except ValueError as error:
        raise ValueError(f"{error}, or choose another --out") from None
    if results.model.sha256 != model.sha256:
        raise ValueError(
            f"{path} is of other weights (sha256 {results.model.sha256[:12]}…, these are {model.sha256[:12]}…); "
            "remove it or choose another --out"
        )
    return replace(results, model=model)


def add_section(folder: Path, model: ModelRecord, protocol: str, name: str, section: Section) -> Path:
    """Write a section into results.json and keep the other sections; returns the file's path.

    Raises:
        ValueError: see `results_so_far`.
    """
    results = results_so_far(folder, model)
    return write_json(folder / FILE, replace(results, **{protocol: results.sections(protocol) | {name: section}}))


def write_json(path: Path, content) -> Path:
    """Write a result as a JSON file, atomically; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TypeAdapter(type(content)).dump_json(content, indent=1, exclude_defaults=True)
    atomic.write(path, text + b"\n")
    return path
