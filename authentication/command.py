"""The command `python -m authentication`: judges probes against references and prints the decision.

`__main__` calls `run` after it has parsed the arguments. Read `authenticator` and `probe` next.
"""

import argparse
import logging
import os
import sys
from dataclasses import replace

from transformers.utils import logging as transformers_logging

from authentication.authenticator import Authenticator, UnlikeReferencesError
from authentication.probe import decide_probe, judge_frames
from authentication.template import Template
from authentication.template_store import SUFFIX, load_template, save_template
from checkpoints import no_usable_model
from image_processing_facelivenet import UnreadableImageError, name_of
from pipeline_facelivenet import Decision, decide_probes

BAR_WIDTH = 30


def reference_template(authenticator: Authenticator, references: list[str], allow_unlike: bool) -> Template:
    """The template of the reference photographs, or a saved template.

    Raises:
        ValueError, OSError: the message names the file and the cause.
    """
    if any(name.endswith(SUFFIX) for name in references):
        if len(references) > 1:
            raise ValueError(f"a saved template ({SUFFIX}) must be the only reference")
        return load_template(references[0], authenticator.revision, authenticator.config.embedding_dim)
    try:
        return authenticator.template(references, allow_unlike)
    except UnlikeReferencesError as error:
        raise ValueError(f"{error}; --allow-unlike accepts them") from error


def judge_probe(
    authenticator: Authenticator, template: Template, path: str, expression: str
) -> tuple[Decision, list[dict]]:
    """The decision about one photograph or clip, and the evidence of each of its frames.

    Raises:
        UnreadableImageError: the message names the file and the cause.
    """
    frames = list(judge_frames(authenticator, template, path, expression))
    records = []
    for frame in frames:
        decision, evidence = frame.decision, frame.evidence
        record = {
            "source": name_of(path),
            "seconds": frame.seconds,
            "reason": decision.reason,
            "similarity": decision.similarity,
        }
        if evidence:
            record |= {
                "expression_probabilities": decision.expression_probabilities,
                "face_count": evidence.face_count,
                "box": evidence.box.tolist(),
                "landmarks": evidence.landmarks.tolist(),
                "detection_probability": evidence.detection_probability,
            }
        records.append(record)
    return decide_probe(frames, expression), records


def describe(decision: Decision) -> str:
    """The text of a decision: verdict, reason, similarity, expression probabilities as bars, frames."""
    lines = [f"{'ACCEPTED' if decision.accepted else 'REJECTED'}: {decision.message.removeprefix('Accepted: ')}"]
    if decision.similarity is not None:
        threshold = "not calibrated" if decision.threshold is None else f"threshold {decision.threshold:.3f}"
        lines.append(f"similarity {decision.similarity:.3f} ({threshold})")
    if decision.expression is not None:
        lines.append(f"expression requested {decision.required_expression}, seen {decision.expression}")
    width = max(map(len, decision.expression_probabilities), default=0)
    for name, probability in decision.expression_probabilities.items():
        bar = "#" * round(probability * BAR_WIDTH)
        mark = "  <- requested" if name == decision.required_expression else ""
        lines.append(f"  {name:{width}} {probability:.2f} {bar:{BAR_WIDTH}}{mark}".rstrip())
    for record in decision.frames or ():
        time = "" if record["seconds"] is None else f" {record['seconds']:.2f} s"
        similarity = "" if record["similarity"] is None else f", similarity {record['similarity']:.3f}"
        lines.append(f"  {record['source']}{time}: {record['reason']}{similarity}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Decide, print, and return the exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        return report_error(no_usable_model(error))
    if authenticator.config.similarity_threshold is None:
        text = "it has no threshold that was calibrated on its weights, so nobody is accepted"
        print(f"{arguments.model}: {text}", file=sys.stderr)
    expressions = authenticator.config.expressions
    if arguments.expression not in expressions:
        return report_error(f"--expression {arguments.expression}: this model knows {', '.join(expressions)}")
    try:
        references = [arguments.first_reference, *arguments.reference]
        template = reference_template(authenticator, references, arguments.allow_unlike)
        if arguments.save_template:
            if not arguments.save_template.endswith(SUFFIX):
                return report_error(f"--save-template {arguments.save_template}: the name must end in {SUFFIX}")
            save_template(template, arguments.save_template, authenticator.revision)
    except (ValueError, OSError) as error:  # such as no face, several faces, or no key
        return report_error(f"the reference cannot be used: {error}")

    decisions, records = [], []
    for path in arguments.probes:
        try:
            decision, frames = judge_probe(authenticator, template, path, arguments.expression)
        except (UnreadableImageError, OSError) as error:
            report_error(f"skipped: {error}")
            continue
        decisions.append(decision)
        records.extend(frames)
    if not decisions:
        return report_error("no probe can be used")
    decision = decide_probes(decisions, arguments.expression)
    if arguments.show_frames:
        decision = replace(decision, frames=tuple(records))
    try:
        print(decision.to_json() if arguments.json else describe(decision), flush=True)
    except OSError as error:  # such as a full disk, or a pipe whose reader has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again when it exits
        return report_error(f"the decision cannot be written: {error.strerror}")
    return 0 if decision.accepted else 1


def report_error(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
