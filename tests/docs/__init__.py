"""Tests of the Markdown that a project gets: it must be right in every line, since people paste it into servers."""
