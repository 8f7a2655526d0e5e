"""What `python -m authentication` does once its arguments are read: references and probes in, the decision out."""

import argparse
import logging
import sys
from dataclasses import replace

from transformers.utils import logging as transformers_logging

from authentication.authenticator import Authenticator, UnlikeReferencesError
from authentication.probe import decide_probe, judge_frames
from authentication.template import Template
from authentication.template_store import SUFFIX, load_template, save_template
from image_processing_facelivenet import UnreadableImageError, name_of
from pipeline_facelivenet import Decision, decide_probes

BAR_WIDTH = 30


def reference_template(authenticator: Authenticator, references: list[str], allow_unlike: bool) -> Template:
    """The template of the reference photographs, or the one that was kept in a file.

    Raises:
        ValueError, OSError: naming the file and the cause.
    """
    if any(name.endswith(SUFFIX) for name in references):
        if len(references) > 1:
            raise ValueError(f"a kept template ({SUFFIX}) stands alone, without further references")
        return load_template(references[0], authenticator.revision, authenticator.config.embedding_dim)
    try:
        return authenticator.template(references, allow_unlike)
    except UnlikeReferencesError as error:
        raise ValueError(f"{error}; --allow-unlike takes them all the same") from error


def judge_probe(
    authenticator: Authenticator, template: Template, path: str, expression: str
) -> tuple[Decision, list[dict]]:
    """The decision about one photograph or clip, and the evidence of each of its frames.

    Raises:
        UnreadableImageError: naming the file and the cause.
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
    """The decision for people who run the command: verdict, reason, similarity, expressions as bars, frames."""
    lines = [f"{'ACCEPTED' if decision.accepted else 'REJECTED'}: {decision.message.removeprefix('Accepted: ')}"]
    if decision.similarity is not None:
        threshold = "not calibrated" if decision.threshold is None else f"threshold {decision.threshold:.3f}"
        lines.append(f"similarity {decision.similarity:.3f} ({threshold})")
    if decision.expression is not None:
        lines.append(f"expression asked {decision.required_expression}, seen {decision.expression}")
    width = max(map(len, decision.expression_probabilities), default=0)
    for name, probability in decision.expression_probabilities.items():
        bar = "#" * round(probability * BAR_WIDTH)
        asked = "  <- asked" if name == decision.required_expression else ""
        lines.append(f"  {name:{width}} {probability:.2f} {bar:{BAR_WIDTH}}{asked}".rstrip())
    for record in decision.frames or ():
        when = "" if record["seconds"] is None else f" {record['seconds']:.2f} s"
        similarity = "" if record["similarity"] is None else f", similarity {record['similarity']:.3f}"
        lines.append(f"  {record['source']}{when}: {record['reason']}{similarity}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Decide, print, and return the exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        return complain(f"no usable model: {error}. Name a trained checkpoint with --model DIR")
    if authenticator.config.similarity_threshold is None:
        print(f"{arguments.model}: no threshold was calibrated on its weights, so nobody is accepted", file=sys.stderr)
    known = authenticator.config.expressions
    if arguments.expression not in known:
        return complain(f"--expression {arguments.expression}: this model knows {', '.join(known)}")
    try:
        references = [arguments.first_reference, *arguments.reference]
        template = reference_template(authenticator, references, arguments.allow_unlike)
        if arguments.save_template:
            if not arguments.save_template.endswith(SUFFIX):
                return complain(f"--save-template {arguments.save_template}: the name must end in {SUFFIX}")
            save_template(template, arguments.save_template, authenticator.revision)
    except (ValueError, OSError) as error:  # unreadable, no face, several faces, no usable embedding, no key
        return complain(f"the reference cannot be used: {error}")

    decisions, records = [], []
    for path in arguments.probes:
        try:
            decision, frames = judge_probe(authenticator, template, path, arguments.expression)
        except (UnreadableImageError, OSError) as error:
            complain(f"skipped: {error}")
            continue
        decisions.append(decision)
        records.extend(frames)
    if not decisions:
        return complain("no probe can be used")
    decision = decide_probes(decisions, arguments.expression)
    if arguments.show_frames:
        decision = replace(decision, frames=tuple(records))
    print(decision.to_json() if arguments.json else describe(decision))
    return 0 if decision.accepted else 1


def complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
