"""The demo: a reference photograph, then expressions and turns of the head drawn at random, live before the camera.

    python app.py [--model DIR] [--host HOST] [--port 7860] [--operator]

The page is there at once and says that the model is being downloaded or loaded. It is in `demo/`; what it shows is
decided in `authentication/`.
"""

import argparse
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import uvicorn

from checkpoints import has_to_be_downloaded
from demo import connections, loading, priorities, words
from demo.arguments import StartError, parse_arguments, require_model, require_usable
from demo.gate import SPACES_FRAMES
from demo.uploads import Uploads

SECONDS_TO_END = 3  # for requests that are open when the server is told to end
LOADER = "load"  # name of the thread that loads the model
SPACES_PROXIES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # a Space is reached through these alone


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        require_usable(arguments)
        listener = listen(arguments.host, arguments.port)
    except StartError as error:
        print(error, file=sys.stderr)
        return 2
    priorities.set_up_process()
    connections.allow_connections()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    for name in ("authentication", "demo"):
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # KeyboardInterrupt, after the server has ended
    uploads = Uploads(os.environ.get("GRADIO_TEMP_DIR"))
    try:
        uploads.sweep_regularly()
        serve(arguments, uploads, listener)
    except StartError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
        uploads.close()
    return 0


def serve(arguments: argparse.Namespace, uploads: Uploads, listener: socket.socket) -> None:
    """First a page that says what is being done with the model, then the demo, until the process is told to end.

    They are two servers that listen to the same address, one after the other: who connects in between waits.

    Raises:
        StartError: see `demo.arguments.require_model` and `demo.command.load`.
    """
    in_a_space = bool(os.environ.get("SPACE_ID"))
    root = arguments.root_path.rstrip("/")
    hosts = [*arguments.allowed_hosts, *(("*", os.environ.get("SPACE_HOST", "")) if in_a_space else ())]  # it is public
    gate = root, hosts, SPACES_FRAMES if in_a_space else ""
    proxies = [*arguments.proxies, *(SPACES_PROXIES if in_a_space else ())]
    host, port = listener.getsockname()[:2]
    print(f"* Running on http://{f'[{host}]' if ':' in host else host}:{port}{root}", flush=True)

    starting = loading.application(*gate)
    first = server(starting, proxies)
    loaded = Future()

    def load() -> None:
        try:
            if has_to_be_downloaded(arguments.model):
                starting.state.help = words.DOWNLOADING_HELP
                require_model(arguments.model)
                starting.state.help = words.LOADING_HELP
            gc.disable()  # imports make half a million objects that stay: looking for garbage among them takes as long
            from demo import command  # imports PyTorch and Gradio

            gc.freeze()
            gc.enable()
            loaded.set_result(command.load(arguments, uploads, *gate))
        except BaseException as error:
            loaded.set_exception(error)
        finally:
            first.should_exit = True

    threading.Thread(target=load, daemon=True, name=LOADER).start()
    first.run(sockets=[listener.dup()])
    application, app = loaded.result()
    from demo import zero_gpu

    print("* The model is loaded", flush=True)
    second = server(app, proxies)
    application.is_ending = lambda: second.should_exit
    zero_gpu.report_start()
    second.run(sockets=[listener])


def server(app, proxies: Sequence[str]) -> uvicorn.Server:
    """proxies: addresses and networks whose X-Forwarded-For is believed."""
    configuration = uvicorn.Config(
        app,
        http=connections.protocol(proxies),
        ws="none",
        log_level="warning",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    return uvicorn.Server(configuration)


def listen(host: str, port: str) -> socket.socket:
    """A socket that listens.

    Raises:
        StartError: the port is no number of a port, or is taken, or the address is not this machine's.
    """
    if not port.isdecimal() or int(port) > 65535:
        raise StartError(f"--port {port}: a number from 0 to 65535 is expected")
    try:
        listener = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StartError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another one with --host or --port"
        ) from None
    # Its connections inherit this. An answer is written in two parts, and the second one would wait for the client to
    # confirm the first, which takes it up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    status = main()
    if any(thread.name == LOADER for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the interpreter's own end would tear PyTorch down under the thread that imports it
    sys.exit(status)
