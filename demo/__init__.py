"""The demo: a web page for `authentication/`, with its own server, and Gradio for drawing the page.

`app.py` starts it. Read `server` first, then `live`.
"""
