"""What is generated for which answers, and what a copy does to a repository that exists."""
