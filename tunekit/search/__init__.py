"""The study: ask, evaluate, tell; and the decision in the end."""
