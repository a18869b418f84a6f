"""A W&B server for tests, on loopback: it keeps what the real client tells it, and fails when told to.

It answers what wandb 0.31 asks online and in `wandb sync`, and wandb-workspaces to save a report: GraphQL by
the name of the operation, the file stream, and uploads. It checks nothing but the key. A request that it does
not know, or cannot make sense of, is refused and stands in `server.unknown`.
"""

import base64
import contextlib
import gzip
import json
import re
import socket
import socketserver
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

HISTORY, EVENTS, SUMMARY, CONSOLE = (
    "wandb-history.jsonl",
    "wandb-events.jsonl",
    "wandb-summary.json",
    "output.log",
)
Said = dict[str, Any]  # variables of a GraphQL operation, and its answer


def identifier(kind: str, number: int) -> str:
    """A GraphQL id as W&B makes them; of a length that needs no padding."""
    return base64.b64encode(f"{kind}:{number:0{20 - len(kind)}}".encode()).decode()


@dataclass
class Run:
    """A run as the server has it. Lines of its streamed files stand at their offsets; a gap is None."""

    entity: str
    project: str
    id: str
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    settings: Said = field(default_factory=dict)  # the configuration as sent: {key: {"value": …}}
    lines: dict[str, list[str | None]] = field(default_factory=dict)  # of the streamed files
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    inputs: list[str] = field(default_factory=list)  # artifacts: "corpus:v0"
    outputs: list[str] = field(default_factory=list)

    @property
    def config(self) -> Said:
        return {key: entry["value"] for key, entry in self.settings.items() if key != "_wandb"}

    @property
    def told(self) -> Said:
        """What W&B adds; under "m" the defined metrics (1: name, 2: glob, 5: number of the step metric)."""
        return self.settings.get("_wandb", {}).get("value", {})

    @property
    def history(self) -> list[Any]:
        return [line and json.loads(line) for line in self.lines.get(HISTORY, [])]

    @property
    def rows(self) -> list[Said]:
        """The history without what W&B adds: `_step`, `_timestamp`, `_runtime`."""
        return [{key: value for key, value in row.items() if key[0] != "_"} for row in self.history]

    @property
    def summary(self) -> Said:
        return json.loads((self.lines.get(SUMMARY) or ["{}"])[-1] or "{}")

    def write(self, file: str, offset: int, content: list[str]) -> None:
        lines = self.lines.setdefault(file, [])
        lines.extend([None] * (offset - len(lines)))
        lines[offset : offset + len(content)] = content


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    entity: str
    project: str
    name: str
    type: str
    version: int
    digest: str
    metadata: Said
    description: str | None
    aliases: list[str] = field(default_factory=list)
    state: str = "PENDING"  # then COMMITTED
    manifest: Said = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}:v{self.version}"

    @property
    def references(self) -> dict[str, str]:
        """Path in the artifact -> the address it points to."""
        contents = self.manifest.get("contents", {})
        return {path: entry["ref"] for path, entry in contents.items() if "ref" in entry}


@dataclass
class Request:
    """A line of the log: a GraphQL operation, `file_stream`, or method and path; bytes of the body."""

    what: str
    size: int
    time: float = field(default_factory=time.monotonic)
    status: int | None = None  # None: not answered


@dataclass
class Fault:
    """Happens to requests whose `what` contains `match`, the next `times` times; one fault to a request."""

    match: str
    status: int | None = None  # the answer, and nothing is done
    delay: float = 0  # seconds, before anything else
    cut: str | None = None  # "request": hang up, nothing is done; "response": done, but half the answer is sent
    times: float = float("inf")


class Refused(Exception):
    """Answered with an HTTP status that is not 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class WandbServer:
    """`with WandbServer(key) as server:` serves until the block ends; what it was told outlives `stop()`."""

    def __init__(self, key: str | None = None, entity: str = "tester", *, tells_lines: bool = True) -> None:
        self.key = key  # None: any
        self.entity = entity  # whose key it is
        # Whether UpsertBucket says how many lines a known run has: a client that does not resume it then
        # appends to them; else it overwrites them from the first on. What W&B's own server does is not public.
        self.tells_lines = tells_lines
        self.runs: dict[tuple[str, str, str], Run] = {}  # (entity, project, id)
        self.artifacts: dict[tuple[str, str], list[Artifact]] = {}  # (project, name) -> by version
        self.reports: dict[str, Said] = {}  # by id
        self.projects: set[str] = set()
        self.log: list[Request] = []
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.awake = threading.Event()  # ends delays
        self.port = 0
        self.http: _Http | None = None

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, key: str | None = None) -> dict[str, str]:
        """The variables that bring a client here."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": key or self.key or "k" * 40,
            "WANDB_MODE": "online",
        }

    def start(self) -> None:
        """Listen: on a free port at first, on the same ever after."""
        self.http = _Http(self.port, self)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Hang up on every client and refuse new ones."""
        http, self.http = self.http, None
        if http is not None:
            http.shutdown()
            http.server_close()
            for connection in list(http.connections):
                hang_up(connection)
        self.wake()

    def fail(self, match: str = "", **what: Any) -> None:
        """From now on, until `heal()`: see Fault; without `match` every request."""
        self.faults.append(Fault(match, **what))

    def heal(self) -> None:
        self.faults = []
        self.wake()

    def wake(self) -> None:
        self.awake.set()
        self.awake = threading.Event()

    def count(self, match: str = "") -> int:
        return sum(match in request.what for request in self.log)

    def run(self, name: str) -> Run:
        """The one run of this id, in whatever project."""
        (found,) = [run for run in self.runs.values() if run.id == name]
        return found

    def graphql(self, operation: str, said: Said) -> Said:
        answer = getattr(self, f"on_{operation}", None)
        if answer is None:
            self.unknown.append(operation)
            return {"data": None, "errors": [{"message": f"this server does not know {operation}"}]}
        return {"data": answer(said)}

    # Who and what is here

    def on_Viewer(self, said: Said) -> Said:
        teams = {"edges": [{"node": {"name": self.entity}}]}
        return {
            "viewer": {"id": "1", "entity": self.entity, "username": self.entity, "flags": "{}", "teams": teams}
        }

    on_GetDefaultEntity = on_Viewer

    def on_ServerFeaturesQuery(self, said: Said) -> Said:
        return {"serverInfo": {"features": []}}

    def on_OrganizationCoreWeaveOrganizationID(self, said: Said) -> Said:
        return {"entity": {"organization": None}}

    # Runs

    def on_UpsertBucket(self, said: Said) -> Said:
        key = (said.get("entity") or self.entity, said.get("project") or "uncategorized", said["name"])
        inserted = key not in self.runs
        run = self.runs.setdefault(key, Run(*key))
        run.state = "running"
        names = {
            "displayName": "name",
            "groupName": "group",
            "jobType": "job_type",
            "notes": "notes",
            "tags": "tags",
        }
        for variable, attribute in names.items():
            if said.get(variable) is not None:
                setattr(run, attribute, said[variable])
        if said.get("config") is not None:
            run.settings = json.loads(said["config"])
        bucket = self.described(run) | ({} if self.tells_lines else {"historyLineCount": None})
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def on_RunResumeStatus(self, said: Said) -> Said:
        run = self.known(said)
        entity = {"id": "1", "name": said.get("entity") or self.entity}
        return {"model": {"id": "1", "name": said["project"], "entity": entity, "bucket": run}}

    def on_Run(self, said: Said) -> Said:
        return {"project": {"run": self.known(said)}}  # `wandb.Api().run(path)`

    on_RunHistoryKeys = on_Run

    def known(self, said: Said) -> Said | None:
        run = self.runs.get((said.get("entity") or self.entity, said["project"], said["name"]))
        return None if run is None else self.described(run)

    def described(self, run: Run) -> Said:
        lines = {name: run.lines.get(name, []) for name in (HISTORY, EVENTS, CONSOLE)}
        unset = ("sweepName", "commit", "readOnly", "createdAt", "heartbeatAt", "systemMetrics")
        return {
            "id": base64.b64encode(f"Run:v1:{run.id}:{run.project}:{run.entity}".encode()).decode(),
            "name": run.id,
            "displayName": run.name,
            "description": run.notes,
            "notes": run.notes,
            "tags": run.tags,
            "group": run.group,
            "jobType": run.job_type,
            "state": run.state,
            "config": json.dumps(run.settings),
            "wandbConfig": json.dumps({"t": run.told["t"]} if "t" in run.told else {}),
            "summaryMetrics": json.dumps(run.summary),
            "historyKeys": {"lastStep": max((row["_step"] for row in run.history if row), default=-1)},
            "historyLineCount": len(lines[HISTORY]),
            "eventsLineCount": len(lines[EVENTS]),
            "logLineCount": len(lines[CONSOLE]),
            "historyTail": json.dumps(lines[HISTORY][-1:]),
            "eventsTail": json.dumps(lines[EVENTS][-1:]),
            "project": {"id": "1", "name": run.project, "entity": {"id": "1", "name": run.entity}},
            "projectId": "1",
            "user": {"name": self.entity, "username": self.entity},
            **dict.fromkeys(unset),
        }

    def file_stream(self, run: Run, said: Said) -> Said:
        for file, chunk in said.get("files", {}).items():
            run.write(file, chunk["offset"], chunk["content"])
        if said.get("complete"):
            run.state = "failed" if said.get("exitcode") else "finished"
        return {}

    def on_CreateRunFiles(self, said: Said) -> Said:
        place = f"{self.url}/files/{said['entity']}/{said['project']}/{said['run']}"
        files = [{"name": name, "uploadUrl": f"{place}/{quote(name)}"} for name in said["files"]]
        return {"createRunFiles": {"runID": said["run"], "uploadHeaders": [], "files": files}}

    # Artifacts

    def on_CreateArtifact(self, said: Said) -> Said:
        said = said["input"]
        key = (said["projectName"], said["artifactCollectionName"])
        versions = self.artifacts.setdefault(key, [])
        earlier = [a for a in versions if a.state == "COMMITTED"]
        artifact = next((a for a in versions if a.digest == said["digest"]), None)
        if artifact is None:
            named = identifier("Artifact", sum(map(len, self.artifacts.values())))
            version, metadata = len(versions), json.loads(said.get("metadata") or "{}")
            place = (said["entityName"], *key, said["artifactTypeName"], version)
            artifact = Artifact(named, *place, said["digest"], metadata, said.get("description"))
            versions.append(artifact)
            if said.get("runName"):
                self.runs[artifact.entity, artifact.project, said["runName"]].outputs.append(str(artifact))
        for alias in [entry["alias"] for entry in said.get("aliases") or []]:
            for other in versions:
                other.aliases = [name for name in other.aliases if name != alias]
            artifact.aliases.append(alias)
        latest = {"latestArtifact": {"id": earlier[-1].id} if earlier else None}
        made = {"id": artifact.id, "state": artifact.state, "artifactSequence": latest}
        return {"createArtifact": {"artifact": made}}

    def on_CreateArtifactManifest(self, said: Said) -> Said:
        upload = {"uploadUrl": f"{self.url}/manifests/{said['artifactID']}", "uploadHeaders": []}
        file = {"id": "1", **(upload if said["includeUpload"] else {})}
        return {"createArtifactManifest": {"artifactManifest": {"id": said["artifactID"], "file": file}}}

    def on_CreateArtifactFiles(self, said: Said) -> Said:
        nodes = []
        for file in said["input"]["artifactFiles"]:
            path = f"artifacts/{file['artifactID']}/{quote(file['name'])}"
            upload = {"storagePath": path, "uploadUrl": f"{self.url}/{path}", "uploadHeaders": []}
            nodes.append({**upload, "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}})
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_CommitArtifact(self, said: Said) -> Said:
        artifact = self.by_id(said["artifactID"])
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def on_UseArtifact(self, said: Said) -> Said:
        said = said.get("input", said)  # wandb-core nests what Python sends flat
        artifact = self.by_id(said["artifactID"])
        inputs = self.runs[said["entityName"], said["projectName"], said["runName"]].inputs
        if str(artifact) not in inputs:
            inputs.append(str(artifact))
        return {"useArtifact": {"artifact": self.version(artifact)}}

    def on_ArtifactByID(self, said: Said) -> Said:
        return {"artifact": self.version(self.by_id(said["id"]))}

    def on_ArtifactType(self, said: Said) -> Said:
        artifact = self.by_name(said["project"], *said["name"].split(":"))
        return {"project": {"artifact": artifact and {"artifactType": {"name": artifact.type}}}}

    def on_ArtifactMembershipByName(self, said: Said) -> Said:
        artifact = self.by_name(said["project"], *said["name"].split(":"))
        if artifact is None:
            return {"project": {"artifactCollectionMembership": None}}
        version = self.version(artifact)
        kept = {key: version[key] for key in ("id", "versionIndex", "createdAt", "aliases")}
        kept |= {"artifactCollection": version["artifactSequence"], "artifact": version}
        return {"project": {"artifactCollectionMembership": kept}}

    def by_id(self, named: str) -> Artifact:
        (found,) = [a for versions in self.artifacts.values() for a in versions if a.id == named]
        return found

    def by_name(self, project: str, name: str, alias: str = "latest") -> Artifact | None:
        versions = self.artifacts.get((project, name), [])
        return next((a for a in versions if alias in {*a.aliases, f"v{a.version}"}), None)

    def version(self, artifact: Artifact) -> Said:
        project = {"id": "1", "internalId": "1", "name": artifact.project, "entity": {"name": artifact.entity}}
        sequence = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
        when = "2000-01-01T00:00:00Z"
        fixed = {"createdAt": when, "updatedAt": when, "ttlIsInherited": True, "tags": [], "commitHash": ""}
        return {
            "ttlDurationSeconds": -2,
            "historyStep": None,
            **fixed,
            "id": artifact.id,
            "state": artifact.state,
            "digest": artifact.digest,
            "metadata": json.dumps(artifact.metadata),
            "description": artifact.description,
            "versionIndex": artifact.version,
            "size": sum(map(len, artifact.files.values())),
            "fileCount": len(artifact.manifest.get("contents", {})),
            "artifactType": {"name": artifact.type},
            "artifactSequence": sequence,
            "aliases": [{"id": a, "alias": a, "artifactCollection": sequence} for a in artifact.aliases],
        }

    # Reports, of wandb-workspaces

    def on_GetProjects(self, said: Said) -> Said:
        names = self.projects | {project for _, project, _ in self.runs}
        rest = {
            "entityName": self.entity,
            "createdAt": "2000-01-01T00:00:00Z",
            "isBenchmark": False,
            "user": None,
        }
        edges = [{"node": {"__typename": "Project", "id": "1", "name": name, **rest}} for name in sorted(names)]
        return {"models": {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}}

    def on_CreateProject(self, said: Said) -> Said:
        self.projects.add(said["input"]["name"])
        return {"upsertModel": None}

    def on_upsertView(self, said: Said) -> Said:
        named = said.get("id") or identifier("View", len(self.reports))
        inserted = named not in self.reports
        project = {"id": "1", "name": said["projectName"], "entityName": said["entityName"]}
        kept = {key: said[key] for key in ("name", "displayName", "description", "type", "spec")}
        self.reports[named] = kept | {"id": named, "project": project}
        return {"upsertView": {"view": self.reports[named], "inserted": inserted}}

    def on_SpecificReport(self, said: Said) -> Said:
        return {"view": self.reports[said["reportId"]]}


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # gone already
        connection.shutdown(socket.SHUT_RDWR)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, owner: WandbServer) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(
            self
        )  # HTTPServer's asks for the host's name, which may take seconds

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has gone is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet; two would wait 40 ms for each other
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """`server.log` has it."""

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = [unquote(part) for part in self.path.strip("/").split("/")]
        query = json.loads(body) if path[-1] == "graphql" else {}
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query.get("query", ""))
        what = operation[1] if operation else f"{self.command} {self.path}"
        request = Request("file_stream" if path[-1] == "file_stream" else what, len(body))
        with owner.lock:
            owner.log.append(request)
            matching = (f for f in owner.faults if f.match in request.what and f.times > 0)
            fault = next(matching, Fault(""))
            fault.times -= 1
        owner.awake.wait(fault.delay)
        if fault.cut == "request" or owner.http is not self.server:  # the latter: stopped in the meantime
            self.close_connection = True
            return hang_up(self.connection)
        try:
            if fault.status:
                raise Refused(fault.status, "told to fail")
            with owner.lock:
                answer = self.answer(path, what, query.get("variables") or {}, body)
            request.status = 200
        except Refused as refused:
            answer = json.dumps({"errors": [{"message": str(refused)}]}).encode()
            request.status = refused.status
        self.send_response(request.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if fault.cut else answer)
        self.wfile.flush()
        if fault.cut:
            self.close_connection = True
            hang_up(self.connection)

    do_GET = do_PUT = do_POST

    def answer(self, path: list[str], what: str, said: Said, body: bytes) -> bytes:
        owner, put = self.server.owner, self.command == "PUT"
        try:
            match path:
                # The address of an upload is its own permit
                case ["files", entity, project, run, *rest] if put:
                    owner.runs[entity, project, run].files["/".join(rest)] = body
                case ["artifacts", named, *rest] if put:
                    owner.by_id(named).files["/".join(rest)] = body
                case ["manifests", named] if put:
                    owner.by_id(named).manifest = json.loads(body)
                case ["sdk", "otel", *_]:
                    raise Refused(404, "no telemetry here")  # the client then sends none
                case ["graphql"]:
                    self.authorize()
                    return json.dumps(owner.graphql(what, said)).encode()
                case ["files", entity, project, run, "file_stream"]:
                    self.authorize()
                    return json.dumps(
                        owner.file_stream(owner.runs[entity, project, run], json.loads(body))
                    ).encode()
                case _:
                    raise KeyError(self.path)
        except (KeyError, ValueError) as error:
            owner.unknown.append(f"{what}: {error!r}")
            raise Refused(404, f"{what}: {error!r}") from error
        return b"{}"

    def authorize(self) -> None:
        """Basic authentication: user `api`, the key as password."""
        said = self.headers.get("Authorization", "").removeprefix("Basic ")
        key = base64.b64decode(said).decode().removeprefix("api:")
        if not key or self.server.owner.key not in (None, key):
            raise Refused(401, "no such key")
