"""Who sees how the API fares: this machine, and whoever may see the platform."""

from typing import Any

import httpx2
import pytest

from domain.refusals import RequestRefused
from domain.roles import Role
from gateways.rest.parts import Watching
from tests.rest.conftest import administered
from tests.rest.harness import Api, made
from tests.rest.people import Person

ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}


async def get(api: Api, path: str, key: str = "", **headers: str) -> httpx2.Response:
    bearer = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        return await client.get(path, headers=ELSEWHERE | bearer | headers)


async def test_metrics_ask_who_comes_from_elsewhere(api: Api) -> None:
    """No key, a wrong one, and one that may not see the platform are refused, the last on record; another is served."""
    client = (await made(api.client(), "/clients", {"name": "Acme"}))["id"]
    of_one_client = await api.key(Role.READ_ONLY, [client])
    await made(api.client(), "/roles", {"name": "no platform", "permissions": ["agents.see"]})
    without = await api.key_that_may(grants=[{"role": "no platform", "everything": True}])
    head = await api.log.head()
    for key, status, code in (
        ("", 401, "unauthenticated"),
        ("flk_x", 401, "unauthenticated"),
        (of_one_client, 403, "forbidden"),
        (without, 403, "forbidden"),
    ):
        answer = await get(api, "/metrics", key)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    refused = [one.event for one in await api.log.read(after=head) if isinstance(one.event, RequestRefused)]
    assert [one.what for one in refused if one.code == "forbidden"] == ["GET /metrics"] * 2
    served = await get(api, "/metrics", await api.key(Role.READ_ONLY))
    assert (served.status_code, "python_info" in served.text) == (200, True)


async def test_a_person_who_is_not_done_logging_in_sees_nothing(api: Api) -> None:
    """Until a login is in order its session opens nothing here either."""
    ada = await Person.add(api, "Ada", {"role": "administrator", "everything": True})
    await ada.log_in()
    assert (await get(api, "/metrics", ada.token)).json()["code"] == "login_incomplete"
    assert (await get(api, "/readyz", ada.token)).json() == {"status": "ready"}


async def test_anybody_hears_whether_it_is_ready_and_no_more(api: Api) -> None:
    """What it depends on, and how that fares, is for who may see the platform."""
    for key in ("", "flk_x"):
        assert (await get(api, "/readyz", key)).json() == {"status": "ready"}
    assert (await get(api, "/healthz")).json() == {"status": "ok"}
    assert (await get(api, "/readyz", await api.key(Role.READ_ONLY))).json()["checks"]["postgres"]["ok"]


@pytest.mark.parametrize(
    ("watching", "headers", "metrics", "checks"),
    [
        (Watching(), {}, 200, True),
        (Watching(), ELSEWHERE, 401, False),
        (Watching(), {"X-Real-IP": "203.0.113.9"}, 401, False),
        (Watching(), {"Via": "1.1 proxy"}, 401, False),
        (Watching(loopback=False), {}, 401, False),
        (Watching(open_metrics=True), ELSEWHERE, 200, False),
    ],
)
async def test_this_machine_sees_all_unless_a_proxy_may_stand_here(
    postgres_url: str, watching: Watching, headers: dict[str, Any], metrics: int, checks: bool
) -> None:
    """A request over the loopback that no proxy passed on; and everybody sees metrics where a setting says so."""
    async with (
        administered(postgres_url, watching=watching) as api,
        httpx2.AsyncClient(base_url=api.url, trust_env=False) as client,
    ):
        assert (await client.get("/metrics", headers=headers)).status_code == metrics
        assert ("checks" in (await client.get("/readyz", headers=headers)).json()) == checks
