"""`--enrolled`: who is let in is decided by templates the operator keeps, never by a visitor's photograph."""

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
    """Anna is enrolled; the key is in a file of its own folder."""
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


def hints(page: Page, person: int, **who) -> list[str]:
    token = page.ask("start", token="", **who)[0]
    assert token
    return [page.frame(picture, token)[2] for picture in jpeg_frames(person, "neutral")[:4]]


def test_the_person_of_the_name_is_known(page):
    assert not any(words.HINTS["different_person"] in hint for hint in hints(page, ANNA, name="anna"))


@pytest.mark.parametrize("name", ["anna", "ben", "../anna", ""])
def test_a_photograph_of_the_visitor_s_own_is_of_no_use(page, name):
    mine = page.upload("me.png", photograph(STRANGER))
    if not name:
        assert words.NO_NAME in page.ask("start", photographs=[mine], token="")[3]
        return
    said = hints(page, STRANGER, name=name, photographs=[mine])
    assert all(words.HINTS["different_person"] in hint for hint in said), (said, "a name nobody has, too")


def test_the_page_asks_for_a_name(enrolled_server, page):
    shown = page.http.get("/config").text
    assert words.NAME in shown and words.REFERENCE not in shown
    assert "anna.template: enrolled on 20" in enrolled_server.log()
    assert page.http.post("/api/pair", json={}).status_code in (404, 405), "nothing else says who somebody is"


def test_a_folder_that_cannot_be_used_is_named(folder, tmp_path, capsys):
    import app

    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert f"--enrolled {tmp_path}: no template" in capsys.readouterr().err
    (tmp_path / "ben.template").write_bytes((folder / "anna.template").read_bytes())
    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert (
        "ben.template: is the template of 'anna'; a template cannot be used under another name"
        in capsys.readouterr().err
    )


def test_an_old_template_that_was_put_back_stops_the_server(shipped, folder, tmp_path, capsys):
    """Chris was enrolled with somebody else's photograph by mistake, and then again."""
    import app

    kept = tmp_path / "chris.template"
    save_template(shipped.template([photograph(STRANGER)]), kept, shipped.revision)
    old = kept.read_bytes()
    save_template(shipped.template([photograph(ANNA)]), kept, shipped.revision)
    kept.write_bytes(old)
    assert app.main(["--enrolled", str(tmp_path), "--port", "0"]) == 2
    assert "chris.template: saved on 20" in (said := capsys.readouterr().err) and "an old template was restored" in said
