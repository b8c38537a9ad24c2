"""A person at a terminal: answers Copier's questions as they appear, over a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pexpect

from tests import profiles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def first_words(question: str) -> str:
    """Return the beginning of a question's help text, which is what tells it apart on the screen."""
    return str(profiles.questions()[question]["help"])[:24]


class Person:
    """Runs `copier copy` and answers what it asks."""

    def __init__(self, arguments: list[str], typed: Mapping[str, str]) -> None:
        """Start the program; `typed` are the answers to type, Enter is the answer to every other question."""
        self.typed = typed
        self.asked: list[str] = []
        self.declined: list[str] = []
        self.screen = ""
        self._process = pexpect.spawn(
            sys.executable,
            ["-m", "copier", "copy", "--trust", *arguments],
            # The prompt would otherwise wait for a terminal that tells where the cursor is.
            env={**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"},
            encoding="utf-8",
            dimensions=(50, 250),
            timeout=60,
        )

    def answer_everything(self) -> int:
        """Answer until the program ends, with «no» to every overwrite, and return its exit code."""
        questions = {first_words(name): name for name in profiles.questions()}
        overwrite = r"Overwrite ([^\r\n]*?)\?"
        while True:
            # A prompt is drawn again after each key, so a question counts once.
            waiting = [re.escape(words) for words, name in questions.items() if name not in self.asked]
            index = self._process.expect([*waiting, overwrite, pexpect.EOF])
            self.screen += self._process.before or ""
            if index == len(waiting) + 1:
                self._process.close()
                return int(self._process.exitstatus or 0)
            self.screen += self._process.after or ""
            if index == len(waiting):
                file = ESCAPE.sub("", self._process.match.group(1)).strip()
                if file not in self.declined:
                    self.declined.append(file)
                    self._process.send("n")
                continue
            name = questions[re.sub(r"\\(.)", r"\1", waiting[index])]
            self.asked.append(name)
            self._process.send(self.typed.get(name, "") + "\r")


def copy(source: Path, destination: Path, typed: Mapping[str, str]) -> Person:
    """Copy the template to a folder as a person does, and return who did it."""
    person = Person([str(source), str(destination)], typed)
    code = person.answer_everything()
    assert code == 0, ESCAPE.sub("", person.screen)
    return person
