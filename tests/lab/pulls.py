"""GitHub's pull requests as far as `infra/bin/update-standard` asks for them, on top of a real bare repository."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.web import Answer, Request, serve

# GitHub's own limit on the text of a pull request.
LONGEST_BODY = 65536


@dataclass
class Pulls:
    """The pull requests of one repository, and what GitHub refuses."""

    origin: Path
    token: str
    repository: str
    address: str = ""
    drafts: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    reviews: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def git(self, *words: str) -> str:
        """Run Git in the bare repository."""
        done = subprocess.run(["git", "-C", str(self.origin), *words], check=True, capture_output=True, text=True)
        return done.stdout

    def branch(self, name: str) -> str:
        """The commit of a branch; empty when there is none."""
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{name}").strip()

    @property
    def open(self) -> list[dict[str, Any]]:
        """The pull requests that are open."""
        return [each for each in self.requests if each["state"] == "open"]

    def close(self, number: int) -> None:
        """Close one without merging it."""
        self.requests[number - 1]["state"] = "closed"

    def comments(self, number: int) -> list[dict[str, Any]]:
        """Every comment on lines of a pull request."""
        return [each for review in self.reviews.get(number, []) for each in review["comments"]]

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        self.asked.append(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "Bad credentials"}
        path = request.path.removeprefix(f"/repos/{self.repository}")
        if request.method == "GET" and path == "/pulls":
            return 200, self._found(request)
        if request.method == "POST" and path == "/pulls":
            return self._create(request.body)
        if match := re.fullmatch(r"/pulls/(\d+)(/reviews)?", path):
            return self._of_one(request, int(match[1]), reviews=bool(match[2]))
        return 404, {"message": "Not Found"}

    def _found(self, request: Request) -> list[dict[str, Any]]:
        owner, _, branch = request.query["head"].partition(":")
        assert owner == self.repository.partition("/")[0]
        wanted = request.query.get("state", "open")
        newest_first = reversed(self.requests)
        return [each for each in newest_first if each["head"]["ref"] == branch and wanted in {"all", each["state"]}]

    def _create(self, body: dict[str, Any]) -> Answer:
        if body["draft"] and not self.drafts:
            return 422, {"message": "Draft pull requests are not supported in this repository."}
        if problem := self._problem(body):
            return 422, {"message": "Validation Failed", "errors": [{"message": problem}]}
        number = len(self.requests) + 1
        made = {
            **{name: body[name] for name in ("title", "body", "draft")},
            "number": number,
            "state": "open",
            "merged_at": None,
            "head": {"ref": body["head"]},
            "base": {"ref": body["base"]},
            "html_url": f"https://github.com/{self.repository}/pull/{number}",
        }
        self.requests.append(made)
        return 201, made

    def _problem(self, body: dict[str, Any]) -> str:
        if len(body["body"]) > LONGEST_BODY:
            return "body is too long"
        if not self.branch(body["head"]) or not self.branch(body["base"]):
            return "head or base is missing"
        if any(each["head"]["ref"] == body["head"] for each in self.open):
            return "A pull request already exists"
        return ""

    def _of_one(self, request: Request, number: int, *, reviews: bool) -> Answer:
        pull = self.requests[number - 1]
        if not reviews and request.method == "PATCH":
            pull.update(request.body)
            return 200, pull
        if reviews and request.method == "GET":
            return 200, self.reviews.get(number, [])
        if reviews and request.method == "POST":
            if request.body["commit_id"] != self.branch(pull["head"]["ref"]):
                return 422, {"message": "commit_id is not part of the pull request"}
            for comment in request.body["comments"]:
                if not self._in_one_hunk(pull, comment):
                    return 422, {"message": "Validation Failed", "errors": ["Line must be part of the diff"]}
            self.reviews.setdefault(number, []).append(request.body)
            return 200, {"id": len(self.reviews[number])}
        return 404, {"message": "Not Found"}

    def _in_one_hunk(self, pull: dict[str, Any], comment: dict[str, Any]) -> bool:
        """Whether all lines of a comment stand in one hunk of the difference, on its new side."""
        between = f"{pull['base']['ref']}...{pull['head']['ref']}"
        text = self.git("diff", "--unified=3", between, "--", comment["path"])
        first, last = comment.get("start_line", comment["line"]), comment["line"]
        for start, count in re.findall(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", text, re.MULTILINE):
            if int(start) <= first <= last < int(start) + int(count or 1):
                return {comment["side"], comment.get("start_side", "RIGHT")} == {"RIGHT"}
        return False


@contextmanager
def pulls(origin: Path, token: str, repository: str, address: str = "127.0.0.1") -> Iterator[Pulls]:
    """Serve the API for a bare repository as long as the block lasts."""
    made = Pulls(origin, token, repository)
    with serve(made.answer, address) as url:
        made.address = url
        yield made
