"""Decides whether a probe or a live session shows the person of a reference photograph and the requested actions.

Used by the demo, the examples and the evaluation, and as the command `python -m authentication`. Read `authenticator`
first, then `attempt` and `session` for live sessions.
"""
