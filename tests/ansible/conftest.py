"""Projects of one's own, to be broken on purpose."""

from tests.build.conftest import make_project

__all__ = ["make_project"]
