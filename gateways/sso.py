"""What the settings say of the provider that people log in through."""

from command_bus.sso_terms import SsoTerms
from gateways.settings import PREFIX, Settings, SettingsError


def sso_terms(settings: Settings) -> SsoTerms | None:
    """The provider, where one is set.

    Raises:
        SettingsError: half of it is, or what goes with it cannot be read.
    """
    issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
    if issuer is None and client_id is None:
        return None
    if issuer is None or client_id is None:
        raise SettingsError(f"{PREFIX}OIDC_ISSUER and {PREFIX}OIDC_CLIENT_ID: set both, or neither.")
    scopes = tuple(settings.oidc_scopes.split())
    if "openid" not in scopes:
        raise SettingsError(f"{PREFIX}OIDC_SCOPES: `openid` must be among them.")
    secret = settings.oidc_client_secret
    return SsoTerms(
        issuer=issuer,
        client_id=client_id,
        client_secret=secret.get_secret_value() if secret is not None else None,
        name=settings.oidc_name,
        scopes=scopes,
        trusted_amr=_listed(settings.oidc_trusted_amr),
        trusted_acr=_listed(settings.oidc_trusted_acr),
        ca_file=settings.oidc_ca_file,
        domains=frozenset(one.lower().lstrip("@") for one in _listed(settings.oidc_user_domains)),
        roles_claim=settings.oidc_roles_claim,
        roles=_roles(settings.oidc_roles),
    )


def _listed(text: str) -> frozenset[str]:
    return frozenset(one.strip() for one in text.split(",") if one.strip())


def _roles(text: str) -> dict[str, str]:
    found = {}
    for one in sorted(_listed(text)):
        # A role's name has no equals sign more often than a group's has none.
        value, sign, role = (part.strip() for part in one.rpartition("="))
        if not sign or not value or not role:
            raise SettingsError(f"{PREFIX}OIDC_ROLES: write VALUE=ROLE, several separated by commas; not {one!r}.")
        found[value] = role
    return found
