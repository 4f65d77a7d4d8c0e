"""What a call does: find the configuration it is served, plan it once, launch it."""
