"""A stand-in for the hub: the endpoints that huggingface_hub calls to push and pull a model, on loopback."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_of_me"


class Repository:
    """Commits by their id, each with all files; branches point to commits."""

    def __init__(self, private):
        self.private = private
        self.commits = {}
        self.branches = {}
        self.commit("main", {})

    def commit(self, branch, changes):
        files = self.files(branch) | changes if branch in self.branches else changes
        content = repr((len(self.commits), sorted(files.items()))).encode()
        commit = hashlib.sha1(content).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def resolve(self, revision):
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision="main"):
        return self.commits[self.resolve(revision)]


class StandInHub:
    """Runs while it is entered.

    Attributes:
        url: for `HF_ENDPOINT`.
        repositories: by name.
        requests: "METHOD path" of all requests.
        cut: how many more commits are cut off midway.
    """

    def __init__(self):
        self.repositories, self.requests, self.cut = {}, [], 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self):
        """What has to be in the environment before huggingface_hub is imported."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._route("GET")

    def do_HEAD(self):
        self._route("HEAD")

    def do_POST(self):
        self._route("POST")

    def log_message(self, *_):
        pass

    def _route(self, method):
        path = unquote(self.path.split("?")[0])
        self.hub.requests.append(f"{method} {path}")
        self.body = b""
        repo = r"/api/models/(?P<repo>[^/]+/[^/]+)"
        file = r"(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
        routes = [
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("POST", rf"{repo}/preupload/(?P<revision>[^/]+)", self._preupload),
            ("POST", rf"{repo}/commit/(?P<revision>[^/]+)", self._commit),
            ("POST", rf"{repo}/branch/(?P<revision>[^/]+)", self._branch),
            ("GET", rf"{repo}(/revision/(?P<revision>[^/]+))?", self._info),
            ("GET", rf"{repo}/tree/(?P<revision>[^/]+)", self._tree),
            ("HEAD", rf"/{file}", self._file),
            ("GET", rf"/{file}", self._file),
        ]
        for wanted, pattern, answer in routes:
            match = re.fullmatch(pattern, path)
            if wanted == method and match:
                arguments = match.groupdict()
                if "repo" in arguments and not self._may_see(arguments["repo"]):
                    self._read()
                    return self._error(404 if self._knows_me() else 401, "RepoNotFound")
                return answer(**arguments)
        self._read()
        return self._error(404, "EntryNotFound")

    def _create(self):
        body = json.loads(self._read())
        if not self._knows_me():
            return self._error(401, "Unauthorized")
        name = f"{body.get('organization') or 'me'}/{body['name']}"
        known = name in self.hub.repositories
        if not known:
            self.hub.repositories[name] = Repository(body.get("private") or body.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{name}", "name": name}, 409 if known else 200)

    def _validate(self):
        self._read()
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repo, revision):
        files = json.loads(self._read())["files"]
        self._json(
            {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]}
        )

    def _commit(self, repo, revision):
        if self.hub.cut:
            self.hub.cut -= 1
            self.rfile.read(int(self.headers.get("Content-Length", 2)) // 2)
            self.close_connection = True
            return self.connection.close()
        body = self._read()
        if not self._knows_me():
            return self._error(401, "Unauthorized")
        lines = [json.loads(line) for line in body.splitlines()]
        files = [line["value"] for line in lines if line["key"] == "file"]
        commit = self.hub.repositories[repo].commit(
            revision, {file["path"]: base64.b64decode(file["content"]) for file in files}
        )
        self._json({"commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "success": True})

    def _branch(self, repo, revision):
        self._read()
        repository = self.hub.repositories[repo]
        if revision in repository.branches:
            return self._error(409, "Conflict")
        repository.branches[revision] = repository.branches["main"]
        self._json({}, 201)

    def _info(self, repo, revision):
        repository = self.hub.repositories[repo]
        commit = repository.resolve(revision or "main")
        if commit is None:
            return self._error(404, "RevisionNotFound")
        files = [{"rfilename": name} for name in repository.commits[commit]]
        self._json({"id": repo, "sha": commit, "private": repository.private, "siblings": files, "tags": []})

    def _tree(self, repo, revision):
        commit = self.hub.repositories[repo].resolve(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound")
        files = self.hub.repositories[repo].commits[commit].items()
        self._json([{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in files])

    def _file(self, repo, revision, path):
        commit = self.hub.repositories[repo].resolve(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound")
        content = self.hub.repositories[repo].commits[commit].get(path)
        if content is None:
            return self._error(404, "EntryNotFound", {"X-Repo-Commit": commit})
        etag = hashlib.sha1(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def _knows_me(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_see(self, repo):
        return repo in self.hub.repositories and (not self.hub.repositories[repo].private or self._knows_me())

    def _read(self):
        """The whole body: it must be read before an answer, or the next request on the connection is garbled."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value, status=200):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, code, headers=None):
        self._send(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"} | (headers or {}))

    def _send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
