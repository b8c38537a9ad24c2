"""What builds and checks a generated project: its workflows, scripts, Dockerfiles and hooks, run for real."""
