"""The command `python -m evaluation.attacks`: simulates sessions, prints tables, writes attacks.json.

`__main__` calls `run` after it has parsed the arguments. Read `simulation` next.
"""

import argparse
import hashlib
import inspect
import json
from pathlib import Path

from authentication.authenticator import Authenticator
from authentication.session import upper_face
from evaluation.attacks.observations import ObservationCache
from evaluation.attacks.people import choose_people
from evaluation.attacks.simulation import attack_report, attacks_text
from evaluation.report.results import write_json
from evaluation.report.summary import ATTACKS_FILE
from evaluation.statistics.rates import Rate, to_json
from face_data.table import load_corpus, split_corpus


def run(arguments: argparse.Namespace) -> None:
    """Raises OSError or ValueError, naming the file or value and the cause."""
    authenticator = Authenticator.from_pretrained(arguments.model)
    config = authenticator.config
    if config.similarity_threshold is None:
        raise ValueError(f"{arguments.model} has no similarity_threshold: run `python -m evaluation calibrate` first")
    observations = ObservationCache(authenticator, _cache_name(authenticator), arguments.cache)
    actions = arguments.actions or authenticator.actions
    reports = {}
    for corpus_name in arguments.data:
        folder, splits = split_corpus(corpus_name)
        people = choose_people(load_corpus(folder, splits), arguments.people)
        thresholds = config.similarity_threshold, config.expression_threshold
        reports[corpus_name] = attack_report(people, observations, actions, *thresholds, seed=arguments.seed)
        observations.save()
        print(f"{corpus_name}\n{attacks_text(reports[corpus_name])}", flush=True)
    content = {"model": arguments.model, "revision": authenticator.revision, "corpora": report_to_json(reports)}
    print(write_json(arguments.out / ATTACKS_FILE, content))


def _cache_name(authenticator: Authenticator) -> str:
    """A name for the weights, the code and the quality gate: observations depend on all three."""
    code = b"".join(
        Path(inspect.getfile(code_object)).read_bytes() for code_object in (upper_face, type(authenticator.processor))
    )
    gate = json.dumps(authenticator.config.quality, sort_keys=True).encode()
    return f"{authenticator.revision}_{hashlib.sha256(code + gate).hexdigest()[:8]}"


def report_to_json(report):
    """A report as JSON content: nested dictionaries with their rates converted."""
    if isinstance(report, Rate):
        return to_json(report)
    return {name: report_to_json(nested) for name, nested in report.items()} if isinstance(report, dict) else report
