"""Every route there is. Those that are asked most stand first, since they are tried in order."""

from gateways.rest import (
    agents,
    api_keys,
    approvals,
    audit,
    causes,
    clients,
    commands,
    diff,
    events,
    fields,
    roles,
    rollouts,
    scripts,
    secrets,
    sessions,
    timelines,
    tokens,
    users,
)
from gateways.rest.route import Route

ROUTES: tuple[Route, ...] = (
    *commands.ROUTES,
    *agents.ROUTES,
    *events.ROUTES,
    *diff.ROUTES,
    *causes.ROUTES,
    *timelines.ROUTES,
    *rollouts.ROUTES,
    *scripts.ROUTES,
    *clients.ROUTES,
    *tokens.ROUTES,
    *users.ROUTES,
    *sessions.ROUTES,
    *roles.ROUTES,
    *api_keys.ROUTES,
    *approvals.ROUTES,
    *audit.ROUTES,
    *secrets.ROUTES,
    *fields.ROUTES,
)
