"""A Hub on 127.0.0.1 that keeps repositories in memory and answers the HTTP requests of huggingface_hub.

It answers the requests of `create_repo`, `upload_folder` (with the LFS protocol, which HF_HUB_DISABLE_XET=1 selects),
`hf_hub_download` and `repo_info`. Errors have the status and the X-Error-Code of the real Hub. `fail`, `cut` and `hold`
cause a given number of faults.
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

    As the real Hub, it redirects requests for large files to another address, `content_url`.
    """

    def __init__(self):
        self.writers, self.readers = {"writer"}, {"reader"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}  # SHA-256 of LFS objects, Git's SHA-1 of other files -> content
        self.requests: list[tuple[str, str]] = []
        self.hardware: dict[str, str | None] = {}  # of Spaces, as requested when they were created
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
        """Answer the next requests with this method and a matching path with an error."""
        self._faults.append({"method": method, "path": path, "status": status, "times": times})

    def cut(self, method: str, path: str, after: int, times: int = 1) -> None:
        """Close the connection of the next matching requests after this many bytes of the file."""
        self._faults.append({"method": method, "path": path, "after": after, "times": times})

    def hold(self, method: str, path: str) -> threading.Event:
        """Answer the next matching request when the event is set, and all others at once."""
        event = threading.Event()
        self._faults.append({"method": method, "path": path, "until": event, "times": 1})
        return event

    def clear_faults(self) -> None:
        """Answer all further requests correctly."""
        self._faults.clear()

    def next_fault(self, method: str, path: str) -> dict:
        with self._lock:
            for fault in self._faults:
                if fault["times"] and fault["method"] == method and re.search(fault["path"], path):
                    fault["times"] -= 1
                    return fault
        return {}

    def count(self, method: str, path: str) -> int:
        """The number of matching requests so far."""
        return sum(verb == method and re.search(path, requested) is not None for verb, requested in self.requests)

    def file(self, repo_id: str, path: str, kind: str = "model") -> bytes:
        """The content of this file in the newest commit."""
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
        fault = self.hub.next_fault(self.command, self.path_only)
        if "until" in fault:
            fault["until"].wait()
        self.after = fault.get("after")
        if self.command == "PUT" and self.after is not None:
            self.rfile.read(self.after)
            return self._disconnect()
        body = self._body()
        if "status" in fault:
            return self._error(fault["status"], None, "out of order")
        repo = r"(?P<prefix>|spaces/|datasets/)(?P<id>[^/]+/[^/]+)"
        api = r"/api/(?P<kind>model|space|dataset)s/(?P<id>[^/]+/[^/]+)"
        for method, pattern, answer in (
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
                return answer(body=body, **match.groupdict())
        self._error(404, None, f"nothing at {self.command} {self.path_only}")

    def _create(self, body):
        request = json.loads(body)
        if not self._may_write():
            return
        key = request.get("type") or "model", f"{request['organization']}/{request['name']}"
        exists = key in self.hub.repositories
        if not exists:
            if key[0] == "space":
                self.hub.hardware[key[1]] = request.get("hardware")
            private = request.get("visibility") == "private" or bool(request.get("private"))
            self.hub.repositories[key] = Repository(private, [(_sha1(b"first"), {})])
        answer = {"url": f"{self.hub.url}/{'spaces/' if key[0] == 'space' else ''}{key[1]}", "id": key[1]}
        self._json(answer | ({"error": "You already created this repo"} if exists else {}), 409 if exists else 200)

    def _validate(self, body):
        try:
            front_matter = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            errors = [] if isinstance(front_matter, dict) else [{"message": "front matter is not a mapping"}]
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
        for requested in json.loads(body)["objects"]:
            stored = requested["oid"] in self.hub.blobs
            upload = {"href": f"{self.hub.url}/lfs/{requested['oid']}", "header": {}}
            actions = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify", "header": {}}}
            objects.append(requested | ({} if stored else {"actions": actions}))
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return self._error(400, None, "the content is not what its hash says")
        self.hub.blobs[oid] = body
        self._empty(200)

    def _verify(self, body):
        request = json.loads(body)
        complete = len(self.hub.blobs.get(request["oid"], b"")) == request["size"]
        self._empty(200) if complete else self._error(404, None, "not stored")

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
        if (listing := self._readable(kind, id, rev or "main")) is not None:
            commit, files = listing
            private = self.hub.repositories[kind, id].private
            siblings = [{"rfilename": path} for path in sorted(files)]
            self._json({"id": id, "sha": commit, "private": private, "tags": [], "siblings": siblings})

    def _tree(self, body, kind, id, rev):
        if (listing := self._readable(kind, id, rev)) is not None:
            listed = sorted(listing[1].items())
            self._json(
                [{"type": "file", "oid": oid, "size": len(self.hub.blobs[oid]), "path": path} for path, oid in listed]
            )

    def _resolve(self, body, prefix, id, rev, path):
        if (listing := self._readable(TYPES[prefix], id, rev)) is None:
            return
        commit, files = listing
        if path not in files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        blob, size = files[path], len(self.hub.blobs[files[path]])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob}"'}
        if len(blob) == 64:
            headers |= {"X-Linked-Etag": f'"{blob}"', "X-Linked-Size": str(size)}
            return self._empty(302, headers | {"Location": f"{self.hub.content_url}/cdn/{blob}"})
        self._send(self.hub.blobs[blob], headers)

    def _cdn(self, body, oid):
        self._send(self.hub.blobs[oid], {"ETag": f'"{oid}"'})

    # permissions

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
        listing = repository.files(revision)
        if listing is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return listing

    # bodies and headers

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
        all_headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {})
        self._json({"error": message}, status, all_headers)

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
            return self._disconnect()
        self.wfile.write(rest)

    def _head(self, status: int, headers: dict):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _disconnect(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
