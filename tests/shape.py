"""The topology that the tests run against, as ``FLEETLOG_TEST_TOPOLOGY`` says: nothing, or ``cluster``."""

import os

CLUSTER = os.environ.get("FLEETLOG_TEST_TOPOLOGY") == "cluster"
NATS_SIZE = 3 if CLUSTER else 1
"""Servers of each NATS."""
