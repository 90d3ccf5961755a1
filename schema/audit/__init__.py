"""The audit chain: what makes any later change of the log evident. docs/decisions/0015-the-audit-chain.md.

Who verifies needs this package alone: it imports nothing of Fleetlog but the archive's format. Its own small program is
`python -m schema.audit`.
"""
