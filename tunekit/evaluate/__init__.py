"""Evaluate one configuration: compile, verify, and measure or estimate."""
