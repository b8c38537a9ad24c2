"""The state in object storage: one writer at a time, encrypted with a key of ours, and no key in any file."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.web import Answer, Request, serve
from tests.terraform.conftest import terraform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

STATE, LOCK = "harbour-shop/terraform.tfstate", "harbour-shop/terraform.tfstate.tflock"
# 32 bytes, as `openssl rand -base64 32` makes them.
CUSTOMER_KEY = "bWFkZS11cC1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q="
SECRET = "made-up-secret-of-the-storage"


@dataclass
class Bucket:
    """A bucket with one client: conditional writes, and encryption with the client's key (SSE-C) alone."""

    url: str = ""
    objects: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def answer(self, asked: Request) -> Answer:
        """What the storage answers."""
        name = asked.path.removeprefix("/harbour-shop-terraform").lstrip("/")
        key = asked.headers.get("x-amz-server-side-encryption-customer-key", "")
        if SECRET in asked.path + str(asked.headers) + str(asked.body):
            return 400, _error("AuthorizationHeaderMalformed")
        if not name:
            return 200, "<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        if asked.method == "PUT":
            if "x-amz-server-side-encryption" in asked.headers or not key:
                return 501, _error("NotImplemented")  # as Hetzner's, which knows SSE-C only
            if asked.headers.get("if-none-match") == "*" and name in self.objects:
                return 412, _error("PreconditionFailed")
            self.objects[name], self.keys[name] = asked.body, key
            return 200, ""
        if name not in self.objects:
            return 404, _error("NoSuchKey")
        if asked.method == "DELETE":
            del self.objects[name]
            return 204, None
        if key != self.keys[name]:
            return 400, _error("InvalidRequest")
        return 200, self.objects[name]


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"


@dataclass
class Operator:
    """Somebody with a checkout and the credentials."""

    folder: Path
    bucket: Bucket

    def terraform(self, *words: str, **env: str) -> CompletedProcess[str]:
        """Run Terraform with the credentials in the environment."""
        credentials = {
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SSE_CUSTOMER_KEY": CUSTOMER_KEY,
            "AWS_MAX_ATTEMPTS": "1",
        }
        return terraform(self.folder, *words, check=False, **{**credentials, **env})

    def push(self, **env: str) -> CompletedProcess[str]:
        """Write a state: what an apply does at its end, without anything to make."""
        state = {
            "version": 4,
            "terraform_version": "1.11.4",
            "serial": 1,
            "lineage": "a",
            "outputs": {},
            "resources": [],
        }
        state["outputs"] = {"made": {"value": "up", "type": "string"}}
        (self.folder.parent / "new.tfstate").write_text(json.dumps(state), encoding="utf-8")
        return self.terraform("state", "push", "-lock-timeout=0s", "../new.tfstate", **env)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A storage for as long as the block lasts."""
    made = Bucket()
    with serve(made.answer) as url:
        made.url = url
        yield made


@pytest.fixture
def operator(configuration: Callable[[str], Path]) -> Iterator[Operator]:
    """A project whose backend.hcl names a storage that is there."""
    with bucket() as made:
        folder = configuration("terraform")
        text = (folder / "backend.hcl").read_text(encoding="utf-8")
        assert "https://fsn1.your-objectstorage.com" in text
        (folder / "backend.hcl").write_text(
            text.replace("https://fsn1.your-objectstorage.com", made.url), encoding="utf-8"
        )
        someone = Operator(folder, made)
        told = someone.terraform("init", "-input=false", "-backend-config=backend.hcl")
        assert told.returncode == 0, told.stderr
        yield someone


def test_the_state_is_written_and_read_with_the_key_of_the_environment(operator: Operator) -> None:
    told = operator.push()
    assert told.returncode == 0, told.stderr
    assert operator.bucket.objects.keys() == {STATE}, "the lock is still there"
    assert operator.bucket.keys[STATE] == operator.bucket.keys[LOCK] == CUSTOMER_KEY
    assert '"made"' in operator.terraform("state", "pull").stdout
    other = operator.terraform("state", "pull", AWS_SSE_CUSTOMER_KEY="YW5vdGhlci1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q=")
    assert other.returncode != 0


def test_nobody_writes_while_somebody_else_does(operator: Operator) -> None:
    operator.bucket.objects[LOCK] = {
        "ID": "1",
        "Operation": "OperationTypeApply",
        "Who": "bob@elsewhere",
        "Path": STATE,
    }
    operator.bucket.keys[LOCK] = CUSTOMER_KEY
    told = operator.push()
    assert told.returncode == 1
    assert "Error acquiring the state lock" in told.stderr
    assert STATE not in operator.bucket.objects


def test_without_a_key_nothing_is_written_in_the_clear(operator: Operator) -> None:
    told = operator.push(AWS_SSE_CUSTOMER_KEY="")
    assert told.returncode == 1
    assert operator.bucket.objects == {}


def test_no_key_is_left_in_a_file(operator: Operator) -> None:
    operator.push()
    for file in operator.folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and "providers" not in file.parts:
            content = file.read_bytes()
            assert SECRET.encode() not in content, file
            assert CUSTOMER_KEY.encode() not in content, file
