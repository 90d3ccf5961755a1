"""Keeps the audit chain: follows the log, signs checkpoints, carries them out of the database."""
