"""A login with a live session: enrol a photograph, then do in front of the webcam what the page requests.

    python examples/login_with_fastapi.py        # then open http://127.0.0.1:8000

All data is in memory. For real use add a database (`authentication.template_store` encrypts templates), let only
logged-in users enrol, and use HTTPS, which browsers require for a webcam. Read `authentication.registry` next.
"""

import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this script runs from a clone

import uvicorn
from fastapi import Body, Cookie, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse

from authentication.attempt import Attempt
from authentication.authenticator import Authenticator
from authentication.limits import AttemptLimiter, TooManyAttemptsError
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import ChallengeSession, draw_challenge
from authentication.template import Template
from checkpoints import DEFAULT_MODEL

MAX_BYTES = 5_000_000  # of a photograph or frame
MAX_TOKENS = 1000  # more than there can be open sessions

app = FastAPI(title="Login with a live session")
authenticator = Authenticator.from_pretrained(DEFAULT_MODEL)
sessions, limiter = SessionRegistry(), AttemptLimiter(authenticator.config.similarity_threshold)
templates: dict[str, Template] = {}  # user -> template
users: dict[str, str] = {}  # token of a session -> user, of the newest MAX_TOKENS
logins: dict[str, str] = {}  # cookie -> user

ImageBytes = Annotated[bytes, Body(media_type="application/octet-stream", max_length=MAX_BYTES)]


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("login.html"))


@app.put("/users/{user}", status_code=201)
def enrol(user: str, photograph: ImageBytes) -> None:
    if user in templates:
        raise HTTPException(409, f"{user} is enrolled already")
    try:
        templates[user] = authenticator.template([photograph])
    except ValueError as error:  # unreadable, no face, several faces
        raise HTTPException(422, str(error)) from error


@app.post("/users/{user}/sessions", status_code=201)
def begin(user: str, request: Request) -> dict:
    if user not in templates:
        raise HTTPException(404, f"{user} is not enrolled")
    session = ChallengeSession(draw_challenge(authenticator.actions), alternatives=authenticator.actions)
    try:
        ticket = limiter.begin(request.client.host)
        limiter.name_face(ticket, templates[user])
        attempt = Attempt(authenticator, templates[user], session, partial(limiter.accepted, ticket))
        token = sessions.open(attempt, partial(limiter.withdraw, ticket))  # an attempt without a frame does not count
    except (TooManyAttemptsError, RegistryFullError) as error:
        raise HTTPException(429, str(error)) from error
    users[token] = user
    if len(users) > MAX_TOKENS:
        users.pop(next(iter(users)))
    return {"token": token}


@app.post("/sessions/{token}/frames")
def observe(token: str, frame: ImageBytes, response: Response) -> dict:
    try:
        view = sessions.observe(token, frame)
    except UnknownSessionError as error:
        raise HTTPException(410, "this session is over: start another one") from error
    decision = view.progress.decision
    if decision is None:
        return {"requested": view.moments[-1].asked}
    if decision.accepted:
        cookie = secrets.token_urlsafe(32)
        logins[cookie] = users[token]
        response.set_cookie("login", cookie, max_age=3600, httponly=True, samesite="strict")
    return {"accepted": decision.accepted}  # the reason is only in the operator's log


@app.get("/secret")
def secret(login: Annotated[str | None, Cookie()] = None) -> dict:
    if login not in logins:
        raise HTTPException(401, "log in first")
    return {"message": f"Hello {logins[login]}"}


if __name__ == "__main__":
    uvicorn.run(app)
