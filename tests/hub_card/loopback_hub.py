"""A Hub on 127.0.0.1 that holds repositories in memory and answers what huggingface_hub asks over HTTP.

Written to the requests of huggingface_hub's `create_repo`, `upload_folder` (its LFS protocol, which it speaks with
HF_HUB_DISABLE_XET=1), `hf_hub_download` and `repo_info`. Errors carry the status and the X-Error-Code that the real one
sends. `fail`, `cut` and `hold` make it misbehave a given number of times.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS = (".safetensors", ".png")
TYPES = {"": "model", "spaces/": "space", "datasets/": "dataset"}


@dataclass
class Repository:
    private: bool
    commits: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # (id, path -> blob), the newest last

    def files(self, revision: str) -> tuple[str, dict[str, str]] | None:
        for commit, files in reversed(self.commits):
            if revision in ("main", commit):
                return commit, files
        return None


class LoopbackHub:
    """Use as a context manager. `writers` and `readers` are access tokens.

    Large files come, as from the real one, by a redirect to another address than the Hub's own, `content_url`.
    """

    def __init__(self):
        self.writers, self.readers = {"writer"}, {"reader"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}  # sha256 of LFS objects, git's sha1 of the others -> content
        self.requests: list[tuple[str, str]] = []
        self.hardware: dict[str, str | None] = {}  # of Spaces, as it was asked for when they were created
        self._faults: list[dict] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        self.url, self.content_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self):
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, method: str, path: str, status: int, times: int = 1) -> None:
        """Answer the next requests of this method whose path matches with an error."""
        self._faults.append({"method": method, "path": path, "status": status, "times": times})

    def cut(self, method: str, path: str, after: int, times: int = 1) -> None:
        """Close the connection of the next such requests after this many bytes of the file."""
        self._faults.append({"method": method, "path": path, "after": after, "times": times})

    def hold(self, method: str, path: str) -> threading.Event:
        """Answer the next such request when the event is set, and the others at once."""
        event = threading.Event()
        self._faults.append({"method": method, "path": path, "until": event, "times": 1})
        return event

    def mend(self) -> None:
        """From now on everything is answered as it should be."""
        self._faults.clear()

    def fault(self, method: str, path: str) -> dict:
        with self._lock:
            for fault in self._faults:
                if fault["times"] and fault["method"] == method and re.search(fault["path"], path):
                    fault["times"] -= 1
                    return fault
        return {}

    def count(self, method: str, path: str) -> int:
        """How many requests there were so far."""
        return sum(own == method and re.search(path, asked) is not None for own, asked in self.requests)

    def file(self, repo_id: str, path: str, kind: str = "model") -> bytes:
        """What the newest commit holds under this path."""
        _, files = self.repositories[kind, repo_id].files("main")
        return self.blobs[files[path]]

    def files(self, repo_id: str, kind: str = "model") -> set[str]:
        return set(self.repositories[kind, repo_id].files("main")[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self):
        self.path_only = unquote(urlsplit(self.path).path)
        self.query = parse_qs(urlsplit(self.path).query)
        self.hub.requests.append((self.command, self.path_only))
        fault = self.hub.fault(self.command, self.path_only)
        if "until" in fault:
            fault["until"].wait()
        self.after = fault.get("after")
        if self.command == "PUT" and self.after is not None:
            self.rfile.read(self.after)
            return self._hang_up()
        body = self._body()
        if "status" in fault:
            return self._error(fault["status"], None, "out of order")
        repo = r"(?P<prefix>|spaces/|datasets/)(?P<id>[^/]+/[^/]+)"
        api = r"/api/(?P<kind>model|space|dataset)s/(?P<id>[^/]+/[^/]+)"
        for method, pattern, act in (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("POST", rf"{api}/preupload/(?P<rev>.+)", self._preupload),
            ("POST", rf"{api}/commit/(?P<rev>.+)", self._commit),
            ("POST", rf"/{repo}\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", self._store),
            ("POST", r"/lfs/verify", self._verify),
            ("GET", rf"{api}(/revision/(?P<rev>.+))?", self._info),
            ("GET", rf"{api}/tree/(?P<rev>.+)", self._tree),
            ("GET", rf"/{repo}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", self._resolve),
            ("GET", r"/cdn/(?P<oid>[0-9a-f]{64})", self._cdn),
        ):
            match = re.fullmatch(pattern, self.path_only)
            if match and method == self.command.replace("HEAD", "GET"):
                return act(body=body, **match.groupdict())
        self._error(404, None, f"nothing at {self.command} {self.path_only}")

    def _create(self, body):
        asked = json.loads(body)
        if not self._may_write():
            return
        key = asked.get("type") or "model", f"{asked['organization']}/{asked['name']}"
        known = key in self.hub.repositories
        if not known:
            if key[0] == "space":
                self.hub.hardware[key[1]] = asked.get("hardware")
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.hub.repositories[key] = Repository(private, [(_sha1(b"first"), {})])
        answer = {"url": f"{self.hub.url}/{'spaces/' if key[0] == 'space' else ''}{key[1]}", "id": key[1]}
        self._json(answer | ({"error": "You already created this repo"} if known else {}), 409 if known else 200)

    def _validate(self, body):
        try:
            front = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            errors = [] if isinstance(front, dict) else [{"message": "front matter is not a mapping"}]
        except (yaml.YAMLError, IndexError) as error:
            errors = [{"message": str(error)}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _preupload(self, body, kind, id, rev):
        if (repository := self._writable(kind, id)) is None:
            return
        _, files = repository.files(rev)
        self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                        "shouldIgnore": False,
                        "oid": files.get(file["path"]),
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def _batch(self, body, prefix, id):
        if self._writable(TYPES[prefix], id) is None:
            return
        objects = []
        for asked in json.loads(body)["objects"]:
            known = asked["oid"] in self.hub.blobs
            upload = {"href": f"{self.hub.url}/lfs/{asked['oid']}", "header": {}}
            actions = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify", "header": {}}}
            objects.append(asked | ({} if known else {"actions": actions}))
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return self._error(400, None, "the content is not what its hash says")
        self.hub.blobs[oid] = body
        self._empty(200)

    def _verify(self, body):
        asked = json.loads(body)
        whole = len(self.hub.blobs.get(asked["oid"], b"")) == asked["size"]
        self._empty(200) if whole else self._error(404, None, "not stored")

    def _commit(self, body, kind, id, rev):
        if (repository := self._writable(kind, id)) is None:
            return
        parent, files = repository.files(rev)
        files = dict(files)
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                blob = _sha1(b"blob %d\0" % len(content) + content)
                self.hub.blobs[blob] = content
                files[entry["value"]["path"]] = blob
            elif entry["key"] == "lfsFile":
                if entry["value"]["oid"] not in self.hub.blobs:
                    return self._error(400, None, f"{entry['value']['path']} was never uploaded")
                files[entry["value"]["path"]] = entry["value"]["oid"]
            elif entry["key"] == "deletedFile":
                del files[entry["value"]["path"]]
        commit = _sha1(parent.encode() + body)
        repository.commits.append((commit, files))
        url = f"{self.hub.url}/{'spaces/' if kind == 'space' else ''}{id}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def _info(self, body, kind, id, rev):
        if (found := self._readable(kind, id, rev or "main")) is not None:
            commit, files = found
            private = self.hub.repositories[kind, id].private
            siblings = [{"rfilename": path} for path in sorted(files)]
            self._json({"id": id, "sha": commit, "private": private, "tags": [], "siblings": siblings})

    def _tree(self, body, kind, id, rev):
        if (found := self._readable(kind, id, rev)) is not None:
            listed = sorted(found[1].items())
            self._json(
                [{"type": "file", "oid": oid, "size": len(self.hub.blobs[oid]), "path": path} for path, oid in listed]
            )

    def _resolve(self, body, prefix, id, rev, path):
        if (found := self._readable(TYPES[prefix], id, rev)) is None:
            return
        commit, files = found
        if path not in files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        blob, size = files[path], len(self.hub.blobs[files[path]])
        about = {"X-Repo-Commit": commit, "ETag": f'"{blob}"'}
        if len(blob) == 64:
            about |= {"X-Linked-Etag": f'"{blob}"', "X-Linked-Size": str(size)}
            return self._empty(302, about | {"Location": f"{self.hub.content_url}/cdn/{blob}"})
        self._send(self.hub.blobs[blob], about)

    def _cdn(self, body, oid):
        self._send(self.hub.blobs[oid], {"ETag": f'"{oid}"'})

    # who may what

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _may_write(self) -> bool:
        token = self._token()
        if token in self.hub.writers:
            return True
        if token in self.hub.readers:
            self._error(403, None, "Forbidden: this token has no write access")
        else:
            self._error(401, None, "Invalid credentials in Authorization header")
        return False

    def _writable(self, kind: str, repo_id: str) -> Repository | None:
        if not self._may_write():
            return None
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None:
            self._error(404, "RepoNotFound", "Repository not found")
        return repository

    def _readable(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, str]] | None:
        token = self._token()
        if token is not None and token not in self.hub.writers | self.hub.readers:
            self._error(401, None, "Invalid credentials in Authorization header")
            return None
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None or (repository.private and token is None):
            self._error(401 if token is None else 404, "RepoNotFound", "Repository not found")
            return None
        found = repository.files(revision)
        if found is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # how it is said

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, content: dict, status: int = 200, headers: dict | None = None):
        body = json.dumps(content).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {}))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str | None, message: str, headers: dict | None = None):
        about = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {})
        self._json({"error": message}, status, about)

    def _empty(self, status: int, headers: dict | None = None):
        self._head(status, {"Content-Length": "0"} | (headers or {}))

    def _send(self, content: bytes, headers: dict):
        start, status = 0, 200
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, status = int(match[1]), 206
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        rest = content[start:]
        self._head(status, headers | {"Content-Length": str(len(rest)), "Accept-Ranges": "bytes"})
        if self.command == "HEAD":
            return
        if self.after is not None:
            self.wfile.write(rest[: self.after])
            return self._hang_up()
        self.wfile.write(rest)

    def _head(self, status: int, headers: dict):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang_up(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
