"""Configurations from elsewhere: other tools' files, read as data and never run."""
