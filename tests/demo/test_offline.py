"""The tabs for clips and photographs, the model's tab, the examples, and the command that starts the app."""

import json
import socket
from pathlib import Path
from threading import Event

import av
import pytest
from PIL import Image

import app
from authentication.authenticator import DEFAULT_MODEL
from authentication.session import TURNS
from demo import model, offline, pictures, words, zero_gpu
from demo.examples import draw_examples
from demo.priorities import LiveFrames

PRESENT = Event()  # never set: the visitor has not left


def arguments_of(row: list[str]) -> tuple[Path, Path, str]:
    """The arguments with which the server calls a handler for an example."""
    return Path(row[0]), Path(row[1]), row[2]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return draw_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def tab(shipped):
    return offline.Offline(shipped, LiveFrames())


def test_clips_are_decided(tab, examples):
    (reference, clip, expression), (stranger, *_) = map(arguments_of, examples[0])
    verdict, timeline = tab.on_clip(reference, clip, expression, PRESENT)
    assert "card accepted" in verdict and timeline.count('class="counted') > 3
    verdict, _ = tab.on_clip(stranger, clip, expression, PRESENT)
    assert "card rejected" in verdict and "does not match" in verdict
    verdict, _ = tab.on_clip(reference, clip, "sad", PRESENT)
    assert "was not seen" in verdict
    assert "0." not in verdict, "scores are for the operator"


def test_pairs_are_decided(tab, shipped, examples):
    outcomes = [tab.on_pair(*arguments_of(row), PRESENT) for row in examples[1]]
    assert ["card accepted" in verdict for verdict, _ in outcomes] == [True, False, False]
    same, neutral, stranger = (row for _, row in outcomes)
    assert same.count("<img") == 2 and words.SAME in same and words.ACCEPTED in same
    assert words.SHOWN["neutral"] in neutral and words.NOT_SAME in stranger
    operator = offline.Offline(shipped, LiveFrames(), operator=True)
    assert "threshold" in operator.on_pair(*arguments_of(examples[1][0]), PRESENT)[0]


def test_unusable_files_are_reported(tab, examples, tmp_path):
    reference, probe, expression = arguments_of(examples[1][0])
    text, nobody = tmp_path / "text.mp4", tmp_path / "nobody.png"
    text.write_text("no clip")
    Image.new("RGB", (300, 300), "grey").save(nobody)
    assert words.NO_REFERENCE in tab.on_pair(None, probe, expression, PRESENT)[0]
    assert words.PROBE_FIRST in tab.on_pair(reference, None, expression, PRESENT)[0]
    assert words.CLIP_FIRST in tab.on_clip(reference, None, expression, PRESENT)[0]
    assert words.PROBLEMS["no_face"] in tab.on_pair(nobody, probe, expression, PRESENT)[0]
    broken = tab.on_clip(reference, text, expression, PRESENT)[0]
    assert "text.mp4: not a clip" in broken and str(tmp_path) not in broken, "the server's folder is secret"
    assert "No face was found" in tab.on_pair(reference, nobody, expression, PRESENT)[0]
    assert words.PROBE_IS_CLIP in tab.on_pair(reference, Path(examples[0][0][1]), expression, PRESENT)[0]


def test_a_clip_of_one_frame_is_not_a_photograph(tab, examples, tmp_path):
    """Three consecutive frames have to count, so one frame is never enough."""
    reference, smiling, expression = arguments_of(examples[1][0])
    clip = tmp_path / "short.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 320
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_image(Image.open(smiling).convert("RGB"))))
        container.mux(stream.encode())
    assert "card accepted" in tab.on_pair(reference, smiling, expression, PRESENT)[0]
    verdict, _ = tab.on_clip(reference, clip, expression, PRESENT)
    assert "card rejected" in verdict and "not held long enough" in verdict
    assert words.PROBE_IS_CLIP in tab.on_pair(reference, clip, expression, PRESENT)[0]


def test_the_model_tab_shows_the_numbers_of_the_results(shipped, tmp_path):
    results = model.read_results(DEFAULT_MODEL)
    tables = model.numbers(results)
    (corpus, section), *_ = results["verification"].items()
    assert any(f"{section['generated']['auc']:.3f}" == row[1] for row in tables[corpus])
    assert all(len(row) == len(words.MODEL_HEADERS) for rows in tables.values() for row in rows)
    assert model.curve(results).count("<polyline") >= 1
    assert model.bars(model.recalls(results)).count('class="bar"') == len(model.recalls(results)) > 3
    assert model.read_results(tmp_path) is None
    (tmp_path / "results.json").write_text(json.dumps({"verification": {}}))
    saved = model.read_results(tmp_path)
    assert saved == {"verification": {}} and model.numbers(saved) == {} and model.curve(saved) == ""


def renamed(folder: Path, **names: str) -> str:
    """The shipped model with other names for its expressions."""
    for file in Path(DEFAULT_MODEL).iterdir():
        (folder / file.name).symlink_to(file.resolve())
    config = (folder / "config.json").read_text(encoding="utf-8")
    for old, new in names.items():
        config = config.replace(f'"{old}"', f'"{new}"')
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(config, encoding="utf-8")
    return str(folder)


@pytest.fixture
def refused(monkeypatch, capsys):
    """A function that runs the command with arguments that it refuses, and returns the error."""
    monkeypatch.setenv("GRADIO_SERVER_PORT", "0")
    monkeypatch.setattr(zero_gpu, "report_start", lambda: pytest.fail("it serves"))

    def refused(*arguments: str) -> str:
        assert app.main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    return refused


def test_an_unusable_model_is_reported(refused, tmp_path):
    assert str(tmp_path) in refused("--model", str(tmp_path))
    assert "cannot request bored, neutral: this model has anger" in refused("--challenge", "happy", "bored", "neutral")


def test_a_model_without_a_neutral_expression_is_refused(refused, tmp_path):
    model = renamed(tmp_path, neutral="calm")
    assert refused("--model", model) == f"{model}: has no neutral expression, with which every challenge starts\n"


def test_a_model_with_an_expression_unknown_to_the_page_is_refused(refused, tmp_path):
    sentence = "cannot request delighted: demo/words.py has no sentence for it"
    model = renamed(tmp_path, happy="delighted")
    assert sentence in refused("--model", model)
    assert sentence in refused("--model", model, "--challenge", "delighted")


def test_an_unusable_port_is_reported_in_one_line(refused, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in refused("--port", port)
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
        assert f"port {port}" in refused(), "the variable is used if --port is not given"
    assert "--port 70000: must be a number from 0 to 65535" in refused("--port", "70000")
    assert "--port x: must be a number" in refused("--port", "x")


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan"])
def test_invalid_seconds_of_a_step_are_refused(refused, seconds):
    assert f"--step-seconds {seconds}: must be a number of seconds, more than 0" in refused("--step-seconds", seconds)


def test_every_action_has_all_its_texts():
    assert words.ASK.keys() == words.HOW.keys() == words.SHOWN.keys()
    assert words.ASK.keys() - set(TURNS) == pictures.MOUTHS.keys() == pictures.BROWS.keys()
