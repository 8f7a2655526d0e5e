"""The demo: the user gives a reference photograph and performs random expressions and turns of the head live.

    python app.py [--model DIR] [--host HOST] [--port 7860] [--operator]

A first page appears at once and says that the model is being downloaded or loaded. The pages are in `demo/`, the
decisions are made in `authentication/`. Read `demo.command` next.
"""

import argparse
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
from startup import large_imports

SECONDS_TO_END = 3  # for open requests when the server ends
LOADER = "load"  # name of the thread that loads the model
SPACES_PROXIES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # a Space is only reachable through these


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
    """Serve a page about the loading of the model, then the demo, until the process is ended.

    Two servers use the same listening socket, one after the other. Connections wait in between.

    Raises:
        StartError: see `demo.arguments.require_model` and `demo.command.load`.
    """
    in_a_space = bool(os.environ.get("SPACE_ID"))
    root = arguments.root_path.rstrip("/")
    space_hosts = ("*", os.environ.get("SPACE_HOST", "")) if in_a_space else ()  # a Space is public
    hosts = [*arguments.allowed_hosts, *space_hosts]
    gate = root, hosts, SPACES_FRAMES if in_a_space else ""
    proxies = [*arguments.proxies, *(SPACES_PROXIES if in_a_space else ())]
    host, port = listener.getsockname()[:2]
    print(f"* Running on http://{f'[{host}]' if ':' in host else host}:{port}{root}", flush=True)

    loading_page = loading.application(*gate)
    loading_server = server(loading_page, proxies)
    loaded = Future()

    def load() -> None:
        try:
            if has_to_be_downloaded(arguments.model):
                loading_page.state.help = words.DOWNLOADING_HELP
                require_model(arguments.model)
                loading_page.state.help = words.LOADING_HELP
            with large_imports():
                from demo import command  # imports PyTorch and Gradio
            loaded.set_result(command.load(arguments, uploads, *gate))
        except BaseException as error:
            loaded.set_exception(error)
        finally:
            loading_server.should_exit = True

    threading.Thread(target=load, daemon=True, name=LOADER).start()
    loading_server.run(sockets=[listener.dup()])
    application, app = loaded.result()
    from demo import zero_gpu

    print("* The model is loaded", flush=True)
    demo_server = server(app, proxies)
    application.is_ending = lambda: demo_server.should_exit
    zero_gpu.report_start()
    demo_server.run(sockets=[listener])


def server(app, proxies: Sequence[str]) -> uvicorn.Server:
    """proxies: addresses and networks whose X-Forwarded-For header is trusted."""
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
    """A listening socket.

    Raises:
        StartError: the port is not a valid number, is in use, or the address is not this machine's.
    """
    if not port.isdecimal() or int(port) > 65535:
        raise StartError(f"--port {port}: must be a number from 0 to 65535")
    try:
        listener = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StartError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another one with --host or --port"
        ) from None
    # Connections inherit this option. An answer is written in two parts. Without the option the second part would wait
    # until the client confirms the first one, which takes up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    status = main()
    if any(thread.name == LOADER for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a normal exit would unload PyTorch while the thread is importing it
    sys.exit(status)
