"""Live tests run real servers in the laboratory (``tests/lab``)."""

from tests.lab.fixtures import app_image, engine, image, registry, run_project, shown

__all__ = ["app_image", "engine", "image", "registry", "run_project", "shown"]
