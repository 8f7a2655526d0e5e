"""A login guarded by a live session: enrol a photograph, then show what is requested before the webcam.

    python examples/login_with_fastapi.py        # then open http://127.0.0.1:8000

Everything is kept in memory. For real use add a database (authentication.template_store encrypts templates), enrolment
by users who are logged in, and HTTPS, without which a browser opens a webcam on localhost only.
"""

import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this script runs from a clone

import uvicorn
from fastapi import Body, Cookie, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from authentication.attempt import Attempt
from authentication.authenticator import Authenticator
from authentication.limits import AttemptLimiter, TooManyAttemptsError
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import ChallengeSession, draw_challenge
from authentication.template import Template
from checkpoints import DEFAULT_MODEL
from image_processing_facelivenet import UnreadableImageError

PAGE = Path(__file__).with_name("login.html").read_text(encoding="utf-8")
MAX_BYTES, MAX_TOKENS = 5_000_000, 1000  # of a photograph or frame; remembered, far more than can be open

app = FastAPI(title="Login with a live session")
authenticator = Authenticator.from_pretrained(DEFAULT_MODEL)
sessions, limiter = SessionRegistry(), AttemptLimiter(authenticator.config.similarity_threshold)
templates: dict[str, Template] = {}  # user -> template
users: dict[str, str] = {}  # token of a session -> user, of the newest MAX_TOKENS
logins: dict[str, str] = {}  # cookie -> user

Picture = Annotated[bytes, Body(media_type="application/octet-stream", max_length=MAX_BYTES)]


@app.get("/")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.put("/users/{user}", status_code=201)
def enrol(user: str, photograph: Picture) -> None:
    if user in templates:
        raise HTTPException(409, f"{user} is enrolled already")
    try:
        templates[user] = authenticator.template([photograph])
    except (UnreadableImageError, ValueError) as error:  # unreadable, no face, several faces
        raise HTTPException(422, str(error)) from error


@app.post("/users/{user}/sessions", status_code=201)
def begin(user: str, request: Request) -> dict:
    template = templates.get(user)
    if template is None:
        raise HTTPException(404, f"{user} is not enrolled")
    session = ChallengeSession(draw_challenge(authenticator.actions), alternatives=authenticator.actions)
    try:
        ticket = limiter.begin(request.client.host)
        limiter.name_face(ticket, template)
        attempt = Attempt(authenticator, template, session, partial(limiter.accepted, ticket))
        token = sessions.open(attempt, partial(limiter.withdraw, ticket))  # one without any picture does not count
    except (TooManyAttemptsError, RegistryFullError) as error:
        raise HTTPException(429, str(error)) from error
    users[token] = user
    if len(users) > MAX_TOKENS:
        users.pop(next(iter(users)))
    return {"token": token}


@app.post("/sessions/{token}/frames")
def observe(token: str, frame: Picture, response: Response) -> dict:
    try:
        view = sessions.observe(token, frame)
    except UnknownSessionError as error:
        raise HTTPException(410, "this session is over: begin another one") from error
    decision = view.progress.decision
    if decision is None:
        return {"requested": view.moments[-1].asked}
    if decision.accepted:
        cookie = secrets.token_urlsafe(32)
        logins[cookie] = users[token]
        response.set_cookie("login", cookie, max_age=3600, httponly=True, samesite="strict")
    return {"accepted": decision.accepted}  # the reason is for the operator's log


@app.get("/secret")
def secret(login: Annotated[str | None, Cookie()] = None) -> dict:
    if login not in logins:
        raise HTTPException(401, "log in first")
    return {"message": f"Hello {logins[login]}"}


if __name__ == "__main__":
    uvicorn.run(app)
