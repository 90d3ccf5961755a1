"""The part of a NATS server's configuration that Fleetlog needs. It holds public keys only, so it is no secret."""

import msgspec

from domain.server_keys import Purpose
from gateways.agents.keys import ServerKeys
from schema import wire

ACCOUNT = "FLEET"
SYSTEM_ACCOUNT = "FLEETSYS"
AUTH_TIMEOUT_S = 20
"""Long enough for a whole fleet that comes back at once to be let in one after the other."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a certificate, as the NATS server sees them."""

    cert_file: str
    key_file: str


def render_nats_config(
    keys: ServerKeys, *, websocket: str | None = None, tls: Tls | None = None, max_connections: int | None = None
) -> str:
    """Lines for a NATS server's configuration file.

    Args:
        keys: the fleet's keys; only their public halves are used.
        websocket: ``host:port`` to take WebSocket connections on.
        tls: encrypts both kinds of connection; without it, put the server behind something that does.
        max_connections: a limit other than the server's own.
    """
    gateways, systems = ([key.user_nkey for key in keys.users[one]] for one in (Purpose.GATEWAY, Purpose.SYSTEM))
    tls_block = f'tls {{ cert_file: "{tls.cert_file}", key_file: "{tls.key_file}" }}' if tls is not None else ""
    # Users that are nkeys make the server send a nonce to everybody, and agents sign it (auth_callout.py).
    accounts = f"""accounts {{
  {ACCOUNT} {{ users: [ {_users(gateways)} ] }}
  {SYSTEM_ACCOUNT} {{ users: [ {_users(systems)} ] }}
}}
system_account: {SYSTEM_ACCOUNT}"""
    callout = f"""authorization {{
  timeout: {AUTH_TIMEOUT_S}
  auth_callout {{
    issuer: {keys.issuer.account_nkey}
    account: {ACCOUNT}
    auth_users: [ {", ".join([*gateways, *systems])} ]
  }}
}}"""
    limit = f"max_connections: {max_connections}" if max_connections is not None else ""
    parts = [f"max_payload: {wire.MAX_MESSAGE_BYTES}", limit, accounts, callout, tls_block]
    if websocket is not None:
        parts.append(f'websocket {{\n  listen: "{websocket}"\n  {tls_block or "no_tls: true"}\n}}')
    return "\n".join(part for part in parts if part) + "\n"


def _users(nkeys: list[str]) -> str:
    return ", ".join(f"{{ nkey: {nkey} }}" for nkey in nkeys)
