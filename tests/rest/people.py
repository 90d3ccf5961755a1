"""People who log in, as a browser does and as the command line does."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pyotp

from gateways.rest.cookies import CSRF_HEADER, PLAIN_NAME
from tests.rest.harness import Api, made

FIRST = "four blue Elephants"
SECOND = "seven green Walruses"


class Person(msgspec.Struct):
    """A user, what they know, and the client that they use."""

    api: Api
    user_id: str
    name: str
    password: str = FIRST
    secret: str = ""
    recovery_codes: list[str] = []
    http: Any = None
    token: str = ""

    @classmethod
    async def add(cls, api: Api, name: str = "Ada", *grants: dict[str, Any]) -> "Person":
        """A user with a password that has to be changed."""
        admin = api.client()
        user_id = (await made(admin, "/users", {"name": name, "grants": list(grants)}))["id"]
        given = await admin.put(f"/users/{user_id}/password", json={"password": FIRST})
        assert given.is_success, given.text
        return cls(api, user_id, name)

    @classmethod
    async def ready(cls, api: Api, name: str = "Ada", *grants: dict[str, Any], bearer: bool = True) -> "Person":
        """The same, logged in for the first time: password changed, second factor enrolled."""
        person = await cls.add(api, name, *grants)
        await person.log_in(bearer=bearer)
        await person.change_password(SECOND)
        await person.enroll()
        return person

    @property
    def origin(self) -> str:
        parts = urlsplit(self.api.url)
        return f"{parts.scheme}://{parts.netloc}"

    def code(self) -> str:
        """A code that was not used: time moves on by as much as it takes for another."""
        self.api.clock.ahead += timedelta(seconds=30)
        return pyotp.TOTP(self.secret).at(self.api.clock())

    def body(self, *, bearer: bool = True, **more: Any) -> dict[str, Any]:
        code = {"code": self.code()} if self.secret and "code" not in more else {}
        return {"user": self.name, "password": self.password, "bearer": bearer} | code | more

    async def try_to_log_in(self, *, bearer: bool = True, **more: Any) -> httpx2.Response:
        return await self.api.client("").post("/session", json=self.body(bearer=bearer, **more))

    async def log_in(self, *, bearer: bool = True) -> dict[str, Any]:
        self.http = self.api.client("", **({} if bearer else {"Origin": self.origin}))
        response = await self.http.post("/session", json=self.body(bearer=bearer))
        assert response.status_code == 201, response.text
        return self._take(response)

    def _take(self, response: httpx2.Response) -> dict[str, Any]:
        """Go on with what an answer brought."""
        assert response.is_success, response.text
        shown: dict[str, Any] = response.json()
        if shown["token"] is not None:
            self.token = shown["token"]
            self.http.headers["Authorization"] = f"Bearer {self.token}"
        else:
            self.token = self.http.cookies[PLAIN_NAME]
            self.http.headers[CSRF_HEADER] = shown["csrf_token"]
        return shown

    async def change_password(self, new: str) -> None:
        self._take(await self.http.post("/session/password", json={"current": self.password, "new": new}))
        self.password = new

    async def enroll(self, **more: Any) -> None:
        offered = await self.http.post("/session/second-factor/offer", json=more)
        assert offered.is_success, offered.text
        self.secret = offered.json()["secret"]
        shown = self._take(await self.http.post("/session/second-factor", json={"code": self.code()}))
        self.recovery_codes = shown["recovery_codes"]

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """What the log says, of these types, oldest first."""
        admin = self.api.client()
        head = await self.api.log.head()
        query = {"limit": 500, "type": list(types), "wait_position": head}
        answer = await admin.get("/events", params=query)
        if answer.status_code == 422:
            answer = await admin.get("/events", params={"limit": 500, "type": list(types)})
        items: list[dict[str, Any]] = answer.json()["items"]
        return sorted(items, key=lambda one: one["position"])
