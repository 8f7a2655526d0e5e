"""The two examples run unchanged: a session from a file in the terminal, and a login over HTTP."""

import io

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from programs import Program

from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph

PERSON, STRANGER = WELL_KNOWN[:2]


@pytest.fixture(scope="module")
def faces() -> dict:
    return {
        (person, name): drawn_photograph(person, name, 1, seed=0).resize((360, 360))
        for person in (PERSON, STRANGER)
        for name in ("neutral", "happy")
    }


def jpeg(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


def write_video(path, image: Image.Image, seconds: float, rate: int = 10) -> None:
    """Write a video of one image with the noise of a camera, so that no two frames are equal."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuvj420p"
        for _ in range(int(seconds * rate)):
            noisy = (np.asarray(image) + rng.normal(0, 3, (*image.size[::-1], 1))).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())


def test_a_video_of_another_person_is_rejected_in_the_terminal(repository, faces, tmp_path):
    faces[PERSON, "neutral"].save(tmp_path / "anna.png")
    write_video(tmp_path / "film.avi", faces[STRANGER, "neutral"], seconds=4)
    script = repository / "examples/session_in_terminal.py"
    program = Program([script, tmp_path / "anna.png", tmp_path / "film.avi"], repository)
    assert program.wait() == 1, program.stderr
    assert "please show: neutral" in program.stdout and "REJECTED" in program.stdout


def test_unusable_input_is_reported(examples, faces, tmp_path, capsys):
    from session_in_terminal import main

    faces[PERSON, "neutral"].save(tmp_path / "anna.png")
    assert main([str(tmp_path / "nobody.png"), str(tmp_path / "film.avi")]) == 2
    assert "nobody.png" in capsys.readouterr().err
    assert main([str(tmp_path / "anna.png"), str(tmp_path / "no_camera")]) == 2
    assert "no_camera" in capsys.readouterr().err


@pytest.fixture(scope="module")
def examples(repository):
    """Make the scripts of examples/ importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "examples"))
        yield


@pytest.fixture(scope="module")
def client(examples):
    import login_with_fastapi

    return TestClient(login_with_fastapi.app)


def test_access_requires_a_session(client, faces):
    assert "getUserMedia" in client.get("/").text
    assert client.get("/secret").status_code == 401
    assert client.get("/secret", cookies={"login": "guess"}).status_code == 401
    assert client.post("/users/anna/sessions").status_code == 404
    assert client.put("/users/anna", content=b"no picture").status_code == 422
    assert client.put("/users/anna", content=b"0" * 6_000_000).status_code == 422
    assert client.put("/users/anna", content=jpeg(faces[PERSON, "neutral"])).status_code == 201
    assert client.put("/users/anna", content=jpeg(faces[STRANGER, "neutral"])).status_code == 409
    assert client.post("/sessions/guess/frames", content=jpeg(faces[PERSON, "neutral"])).status_code == 410


def test_a_still_photograph_cannot_log_in(client, faces):
    client.put("/users/anna", content=jpeg(faces[PERSON, "neutral"]))
    token = client.post("/users/anna/sessions").json()["token"]
    frame, answers = jpeg(faces[PERSON, "neutral"]), []
    while not answers or "accepted" not in answers[-1]:
        answers.append(client.post(f"/sessions/{token}/frames", content=frame).json())
        assert len(answers) < 200
    assert answers[0] == {"requested": "neutral"} and answers[-1] == {"accepted": False}
    assert client.get("/secret").status_code == 401
    assert client.post(f"/sessions/{token}/frames", content=frame).status_code == 410
