"""What is confidential leaves in no event: it is in none."""

import base64

from tests.forward.receivers import Place, WebReceiver, until
from tests.rest.conftest import administered
from tests.rest.harness import Fleet, made
from tests.rest.people import Person

VALUE, TOKEN = "Tr0ub4dor-%-s", "Bearer t0k3n-of-the-receiver"


async def test_nothing_confidential_is_forwarded(here: Place) -> None:
    """Secrets, passwords, codes, keys and tokens of all kinds are made and used; then all of the log is forwarded."""
    async with administered(here.url) as api, WebReceiver().serving() as receiver:
        http = api.client()
        fleet = await Fleet.make(api, http, "Acme")
        ada = await Person.ready(api, "Ada", {"role": "administrator", "everything": True})
        agent_id = await fleet.agent()
        await made(http, "/secrets", {"name": "Db", "value": VALUE})
        shell = {"kind": "run_shell", "shell": "sh", "line": "echo {{secret.db}}"}
        await fleet.command(agent_id, spec=shell)
        key = (await made(http, "/api-keys", {"name": "laptop"}))["key"]
        token = (await made(http, "/enrollment-tokens", {"site_id": fleet.site_id}))["token"]
        to = {"kind": "webhook", "url": f"{receiver.url}/in", "batch": 50}
        secrets = {"authorization": TOKEN, "query": "q=qu3ry"}
        body = {"name": "SIEM", "to": to, "after": "beginning", "secrets": secrets}
        added = await made(http, "/destinations", body)
        head = await here.log.head()
        async with here.forwarding():
            await until(lambda: receiver.positions[-1:] == [head])
        sent = b"".join(content for _, content, _ in receiver.requests)
        assert b"fleetlog.SecretSet" in sent
        assert b"fleetlog.SessionOpened" in sent
        confidences = [VALUE, TOKEN, "qu3ry", key, token, added["signing_key"], ada.password, ada.secret, ada.token]
        for text in (*confidences, *ada.recovery_codes):
            assert text
            for form in (text, text.encode().hex(), base64.b64encode(text.encode()).decode().rstrip("=")):
                assert form.encode() not in sent, text
