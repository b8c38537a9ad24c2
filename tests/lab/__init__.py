"""The laboratory: generated projects run for real, on a real Docker engine, without the internet.

``engine`` finds or starts the engine, ``images`` builds stand-ins for the images that cannot be pulled, ``registry``
gives them digests, ``project`` runs a rendered project as Compose alone would, ``server`` is a server's folder with its
user and releases, ``traffic`` its visitors. ``fixtures`` offers all of it to pytest,
``python -m tests.lab`` to a person. What the official images promise, and the stand-ins must keep, is tested in
``tests/live/test_standins.py``.
"""
