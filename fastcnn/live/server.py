"""The server of a page: this machine's loopback address alone, a token in each address, events as they come.

It guards against another person's program on this machine, and another site's page in the same browser. Each address
begins with a random token; the Host must be the loopback's, so that no foreign name can be bound to it (DNS rebinding);
a request that another site's page sends is refused by its Origin and its Sec-Fetch-Site; nothing may embed the page.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np

from .frames import as_json, packed
from .studio import Client, Studio

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
LONGEST = 1 << 22  # bytes of a request
BROWSERS = 100  # that listen at once
BEAT = 0.5  # seconds between two looks whether there is a frame
LOST = 20.0  # seconds after which a browser that takes nothing is forgotten
ACTIONS = ("pause", "resume", "step", "stop", "rate", "schedule")


class RefusedError(Exception):
    """A request that is answered with an error: its status, and what to say."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class Server:
    """Listens, and answers in threads that end with the process.

    Parameters
    ----------
    studio : Studio
    port : int
        0 for a free one.

    Raises
    ------
    OSError
        If the port is in use, or may not be used.
    """

    def __init__(self, studio: Studio, port: int) -> None:
        self.studio, self.token = studio, secrets.token_urlsafe(16)
        try:
            self.http = _Listener((HOST, port), _Handler)
        except OSError as error:
            raise OSError(error.errno, f"port {port} cannot be listened at: {error.strerror}") from None
        self.http.owner = self
        self.port = int(self.http.server_address[1])
        self.url = f"http://{HOST}:{self.port}/{self.token}/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.2,), name="fastcnn live", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self.studio.closed = False
        self.thread.start()

    def stop(self) -> None:
        """End: no thread is left but those that are about to notice it."""
        self.studio.closed = True
        with self.studio.changed:
            self.studio.changed.notify_all()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has gone; anything else is a fault that shall be seen."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener
    server_version = "fastcnn"
    sys_version = ""
    timeout = LOST
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""

    def do_GET(self) -> None:
        self._answer(self.gets)

    def do_POST(self) -> None:
        self._answer(self.posts)

    def _answer(self, verbs: Mapping[str, Callable[[Any, dict[str, Any]], None]]) -> None:
        body = b""
        try:
            length = self._length()
            body = self.rfile.read(length)
            name = self._admitted()
            if name not in verbs:
                raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
            given = self._given(body)
            verbs[name](self, given)
        except RefusedError as error:
            self._send(error.status, "text/plain", str(error).encode())
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", str(error).encode())

    def _length(self) -> int:
        text = self.headers.get("Content-Length") or "0"
        if not text.isdigit() or int(text) > LONGEST:
            self.close_connection = True
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too long")
        return int(text)

    def _admitted(self) -> str:
        """Return what is asked for behind the token; raise unless the request may come in."""
        port = self.server.owner.port
        hosts = [f"{name}:{port}" for name in NAMES]
        if self.headers.get("Host", "").lower() not in hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Host: expected this machine's loopback address")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in [f"http://{host}" for host in hosts]:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Origin: requests of other sites are refused")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Sec-Fetch-Site: requests of other sites are refused")
        _, token, name = (*urlsplit(self.path).path.split("/", 2), "", "")[:3]
        if not hmac.compare_digest(token.encode(), self.server.owner.token.encode()):
            raise RefusedError(HTTPStatus.FORBIDDEN, "the address lacks the token that fastcnn has written")
        return name

    def _given(self, body: bytes) -> dict[str, Any]:
        """Return the arguments: of the address, or of a body of JSON."""
        if self.command == "GET":
            return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: expected application/json")
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError("expected JSON") from None
        if not isinstance(given, dict):
            raise ValueError("expected an object of JSON")
        return given

    def _send(self, status: HTTPStatus, kind: str, body: bytes, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self._send_guards(policy)
        self.end_headers()
        self.wfile.write(body)

    def _send_guards(self, policy: str) -> None:
        for name, value in {
            "Cache-Control": "no-store", "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
        }.items():  # fmt: skip
            self.send_header(name, value)

    def _json(self, value: Any) -> None:
        self._send(HTTPStatus.OK, "application/json", as_json(value))

    @property
    def _studio(self) -> Studio:
        return self.server.owner.studio

    # What can be asked for.

    def _page(self, given: dict[str, Any]) -> None:
        nonce = secrets.token_urlsafe(12)
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        )
        self._send(HTTPStatus.OK, "text/html", page.replace("NONCE", nonce).encode(), policy)

    def _model(self, given: dict[str, Any]) -> None:
        self._json(self._studio.describe())

    def _events(self, given: dict[str, Any]) -> None:
        """Send frames as they are made, until the browser or the page goes."""
        studio = self._studio
        if len(studio.clients) >= BROWSERS:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"{BROWSERS} browsers are there already")
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self._send_guards("default-src 'none'")
        self.end_headers()
        client = studio.connect(_word(given, "client"))
        try:
            self._stream(studio, client)
        except OSError:
            pass  # the browser has gone
        finally:
            studio.disconnect(client)

    def _stream(self, studio: Studio, client: Client) -> None:
        self.wfile.write(b"retry: 1000\n\n")
        studio.tick()
        seen, quiet, sent = 0, 0.0, b""
        while not studio.closed:
            with studio.changed:
                if client.number == seen and not studio.offered:
                    studio.changed.wait(BEAT)
            if studio.offered:
                studio.make_offered()
            with studio.changed:
                number, frame, slow = client.number, client.frame, client.slow
            if number == seen:
                quiet += BEAT
                studio.tick()
                if quiet > 5:  # a browser that has gone is noticed when something is written to it
                    self.wfile.write(b": \n\n")
                    quiet = 0.0
                continue
            seen, quiet = number, 0.0
            parts = [b"event: frame\ndata: ", frame, b"\n\n"]
            if slow is not sent:
                parts += [b"event: slow\ndata: ", slow, b"\n\n"]
                sent = slow
            self.wfile.write(b"".join(parts))
        self.wfile.write(b"event: closed\ndata: {}\n\n")

    def _explain(self, given: dict[str, Any]) -> None:
        view = self._studio.view(_word(given, "client"))
        self._json(self._studio.explain(view, _word(given, "layer"), _numbers(given, "at")))

    def _gradient(self, given: dict[str, Any]) -> None:
        view = self._studio.view(_word(given, "client"))
        target = int(given["target"]) if given.get("target") else None
        found = self._studio.explain_gradient(view, _word(given, "parameter"), _numbers(given, "at"), target)
        self._json(found)

    def _images(self, given: dict[str, Any]) -> None:
        """Send small images: some from a place on, or those of a cell of the confusion matrix."""
        samples, studio = self._studio.samples, self._studio
        if "true" in given:
            numbers = studio.guesses.cell(int(given["true"]), int(given["guess"]))
        else:
            first = max(0, int(given.get("first", 0)))
            numbers = list(range(first, min(len(samples), first + 24)))
        shape = studio.model.input_shape if studio.model is not None else None
        if shape is None:
            raise ValueError("the network is not built yet")
        found = [
            {"image": k, "target": samples.target(k), **packed(np.asarray(samples.x(k)).reshape(shape), 3 << 14)}
            for k in numbers
        ]
        self._json({"images": found})

    def _view(self, given: dict[str, Any]) -> None:
        wanted: dict[str, Any] = {}
        if "image" in given:
            wanted |= {"image": _whole(given, "image"), "drawn": None}
        if given.get("drawn") is not None:
            pixels = given["drawn"]
            if not isinstance(pixels, list):
                raise ValueError("drawn: expected a list of numbers")
            assert self._studio.model is not None
            wanted["drawn"] = tuple(float(one) for one in pixels)
            self._studio.samples.drawn(wanted["drawn"], self._studio.model.input_shape or (1,))
        if "layer" in given:
            wanted |= {"layer": _word(given, "layer"), "first": 0}
        if "first" in given:
            wanted["first"] = max(0, _whole(given, "first"))
        self._studio.look(_word(given, "client"), **wanted)
        self._json({})

    def _control(self, given: dict[str, Any]) -> None:
        action = _word(given, "action")
        if action not in ACTIONS:
            raise ValueError(f"action: expected one of {', '.join(ACTIONS)}; got {action!r}")
        command: dict[str, Any] = {"action": action}
        if action == "rate":
            value = given.get("value")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
                raise ValueError(f"value: expected a learning rate above 0; got {value!r}")
            command["value"] = float(value)
        if self._studio.state not in ("training", "paused"):
            raise RefusedError(HTTPStatus.CONFLICT, "no training goes on")
        run = self._studio.run
        if action == "rate" and run is not None and run._kept:
            words = "the learning rate stays: this fit keeps a checkpoint, from which its own schedule goes on"
            raise RefusedError(HTTPStatus.CONFLICT, words)
        self._studio.ask(command)
        self._json({})

    gets: ClassVar = {
        "": _page, "model": _model, "events": _events, "explain": _explain, "gradient": _gradient, "images": _images,
    }  # fmt: skip
    posts: ClassVar = {"view": _view, "control": _control}


def _word(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError(f"{name}: expected a word; got {value!r:.50}")
    return value


def _whole(given: dict[str, Any], name: str) -> int:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**53) < value < 2**53:
        raise ValueError(f"{name}: expected a whole number; got {value!r:.50}")
    return value


def _numbers(given: dict[str, Any], name: str) -> list[int]:
    words = _word(given, name).split(",")
    try:
        return [int(word) for word in words]
    except ValueError:
        raise ValueError(f"{name}: expected whole numbers between commas; got {given.get(name)!r:.50}") from None
