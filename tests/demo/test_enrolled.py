"""`--enrolled`: visitors are compared with templates of the operator, never with an uploaded photograph."""

import contextlib

import pytest
from servers import ForkedServer

from authentication.authenticator import DEFAULT_MODEL
from authentication.template_store import KEY, KEY_FILE, new_key_file, save_template
from benchmarks.live import Page, jpeg_frames, photograph
from demo import words
from demo.examples import WELL_KNOWN

ANNA, STRANGER = WELL_KNOWN[:2]


@pytest.fixture(scope="module")
def folder(shipped, tmp_path_factory):
    """A folder with the template of Anna. The file of the key is in another folder."""
    folder, key = tmp_path_factory.mktemp("enrolled"), tmp_path_factory.mktemp("keys") / "template.key"
    new_key_file(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(KEY, raising=False)
        patch.setenv(KEY_FILE, str(key))
        save_template(shipped.template([photograph(ANNA)]), folder / "anna.template", shipped.revision)
        yield folder


@pytest.fixture(scope="module")
def enrolled_server(folder):
    with ForkedServer(str(DEFAULT_MODEL), "--challenge", "happy", "--enrolled", str(folder)) as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def page(enrolled_server):
    with contextlib.closing(Page(enrolled_server.address)) as page:
        yield page


def hints(page: Page, person: int, **request) -> list[str]:
    token = page.ask("start", token="", **request)[0]
    assert token
    return [page.frame(picture, token)[2] for picture in jpeg_frames(person, "neutral")[:4]]


def test_the_enrolled_person_matches(page):
    assert not any(words.HINTS["different_person"] in hint for hint in hints(page, ANNA, name="anna"))


@pytest.mark.parametrize("name", ["anna", "ben", "../anna", ""])
def test_a_photograph_of_the_visitor_is_ignored(page, name):
    upload = page.upload("me.png", photograph(STRANGER))
    if not name:
        assert words.NO_NAME in page.ask("start", photographs=[upload], token="")[3]
        return
    shown = hints(page, STRANGER, name=name, photographs=[upload])
    assert all(words.HINTS["different_person"] in hint for hint in shown), (shown, "also for unknown names")


def test_the_page_asks_for_a_name(enrolled_server, page):
    shown = page.http.get("/config").text
    assert words.NAME in shown and words.REFERENCE not in shown
    assert "anna.template: enrolled on 20" in enrolled_server.log()
    assert page.http.post("/api/pair", json={}).status_code in (404, 405), "visitors cannot choose another reference"


def test_an_unusable_folder_is_reported(folder, tmp_path, capsys):
    import app

    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert f"--enrolled {tmp_path}: no template" in capsys.readouterr().err
    (tmp_path / "ben.template").write_bytes((folder / "anna.template").read_bytes())
    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert (
        "ben.template: is the template of 'anna'; a template cannot be used under another name"
        in capsys.readouterr().err
    )


def test_a_restored_old_template_stops_the_server(shipped, folder, tmp_path, capsys):
    """The first enrolment of Chris used a photograph of another person by mistake."""
    import app

    path = tmp_path / "chris.template"
    save_template(shipped.template([photograph(STRANGER)]), path, shipped.revision)
    old = path.read_bytes()
    save_template(shipped.template([photograph(ANNA)]), path, shipped.revision)
    path.write_bytes(old)
    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert (
        "chris.template: saved on 20" in (error := capsys.readouterr().err) and "an old template was restored" in error
    )
