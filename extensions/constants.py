"""Spares Copier the compilation of strings in which there is nothing to render, and of those that it has seen.

A copy renders every folder of every path, and each question's type several times over: some 400 strings without any
delimiter. Jinja would compile each of them, and the project's facts would be looked up for each. Others come again and
again, such as the name of a folder for each file in it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.ext import Extension


class Constant:
    """Stands for the template of a string without delimiters."""

    def __init__(self, text: str) -> None:
        self._text = text

    def render(self, *_: object, **__: object) -> str:
        """Return the string."""
        return self._text


class Constants(Extension):
    """Answers `from_string` for strings without delimiters, and compiles each other one once."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # Folding constants takes longer than it saves in a template that is rendered once.
        environment.optimized = False
        self._compile = environment.from_string
        self._delimiters = (
            environment.variable_start_string,
            environment.block_start_string,
            environment.comment_start_string,
            "\r",  # Jinja writes other line ends as \n.
        )
        self._compiled: dict[str, Template] = {}
        environment.from_string = self._from_string  # type: ignore[method-assign, assignment]

    def _from_string(
        self,
        source: str | nodes.Template,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's name
        template_class: type[Template] | None = None,
    ) -> Template | Constant:
        """Do what `Environment.from_string` does."""
        if not isinstance(source, str) or globals is not None or template_class is not None:
            return self._compile(source, globals, template_class)
        constant = not any(delimiter in source for delimiter in self._delimiters)
        if constant or source in self._compiled:
            # Extensions see the string all the same: Copier's `yield` forgets the last loop at this moment.
            text = self.environment.preprocess(source)
            return Constant(text) if constant else self._compiled[source]
        template = self._compiled[source] = self._compile(source)
        return template
