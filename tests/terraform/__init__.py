"""Terraform reads, tests, plans and applies what is generated, with the real providers."""
