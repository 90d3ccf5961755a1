"""Forwards the log to the outside: each event as a CloudEvent, at least once, in order."""
