"""Programs for who owns a project or makes a release; see the Makefile."""
