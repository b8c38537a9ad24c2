"""Tests of generated projects on a real engine, one at a time (no pytest-xdist): a machine has one port 443."""
