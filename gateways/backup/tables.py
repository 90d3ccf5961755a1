"""Which tables a backup holds. A test compares these lists with the database."""

ARCHIVE = ("archive_segments", "archive_blocks", "archive_streams")
"""What has moved out of the log's table; a backup that an earlier Fleetlog made has none of it."""
SWEEPS = ("output_sweeps",)
"""What retention has removed and the log does not say yet; the same holds of it."""
ERASING = ("erasing_outputs", "output_erasures")
"""Which outputs of erased agents are yet to go, and which went and the log does not say yet; the same holds of it."""
CHAIN = ("chain_pages", "chain_checkpoints", "chain_signatures", "chain_exports", "chain_key")
"""What makes changes of the log evident, and the key that signs it; as above."""
SECRETS = ("secret_values",)
"""Sealed; the same holds of them."""
CREDENTIALS = ("credential_values",)
"""What people log in with, sealed; the same holds of it."""
FORWARDING = ("forwarding", "destination_values")
"""How far forwarding was, as of the log that is in the backup, and its sealed secrets; the same holds of it."""
PERSONAL = ("personal_keys",)
"""What personal data in the log are sealed with, and who was erased; the same holds of it."""
SOFTWARE = ("software_lists",)
"""What is installed on machines, which events name; the same holds of it."""
LATER = (ARCHIVE, SWEEPS, ERASING, CHAIN, SECRETS, CREDENTIALS, FORWARDING, PERSONAL, SOFTWARE)

KEPT = (
    "events",
    *ARCHIVE,
    *CHAIN,
    "outputs",
    "output_chunks",
    *SWEEPS,
    *ERASING,
    *SOFTWARE,
    "server_keys",
    "leases",
    *SECRETS,
    *CREDENTIALS,
    *FORWARDING,
    *PERSONAL,
)
"""The log; the chain over it; the outputs that its events name, and what was removed of them just now;
what is installed on machines; the keys that
agents know the fleet by; which commands may be on their way, so that none of them is cancelled as if no agent had it;
and secrets and credentials, sealed under a master key that is not in the backup. In this order, a row never comes
before what it needs."""

LEFT = (
    "processes",
    "nats_servers",
    "presence",
    "lease_takes",
    "telemetry",
    "check_lists",
    "check_told",
    "output_uploads",
    "key_uses",
    "sessions",
    "passkey_challenges",
    "http_runs",
    "sso_flows",
    "sso_logouts",
    "replays",
)
"""Who runs and how NATS fares, who was heard of and how busy machines were, as of then; which
checks are whose, which is worked out anew, and what was measured last; where to look for leases that
were left, which is noted anew; when keys were used; uploads under way, which agents send again; who was logged in, who
does so again; and replays, which are made anew from the log."""
