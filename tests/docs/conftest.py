"""The laboratory, for the runbooks that are followed on a real engine."""

from tests.lab.fixtures import app_image, engine, image, registry, shown

__all__ = ["app_image", "engine", "image", "registry", "shown"]
