"""The endpoint program: journals what it is told to do, does it once, and reports what came of it."""

VERSION = "0.1.0"
