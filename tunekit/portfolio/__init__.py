"""A few configurations that serve many problems: which ones, and what that costs."""
