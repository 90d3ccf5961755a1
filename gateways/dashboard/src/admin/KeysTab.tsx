import { useState } from "react";
import { api, ask } from "../api/client";
import { waitingSecret } from "../api/problem";
import type { components } from "../api/schema";
import { useMayEverywhere, useMe } from "../api/session";
import { useChange } from "../app/change";
import { useEvery } from "../app/every";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { More } from "../ui/More";
import { Once } from "../ui/Once";
import { Pick } from "../ui/Pick";
import { Status } from "../ui/Status";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { inDays } from "./choices";
import { GrantFields, GrantList, placed } from "./Grants";
import { RevokeKey } from "./RevokeKey";

type Key = components["schemas"]["ApiKeyModel"];

/** What the server takes for how a key begins. */
const WHOLE = /^flk_[0-9a-f]{1,32}$/;

/** Of what was typed or pasted, what may be shown and sent: never the secret half of a key. */
function cut(typed: string): string {
  return /flk_[0-9a-f]{0,32}/.exec(typed)?.[0] ?? typed.slice(0, 4);
}

/** What programs call with. */
export default function KeysTab() {
  const manage = useMayEverywhere()("keys.manage");
  const [making, setMaking] = useState(false);
  const [voided, setVoided] = useState(false);
  const [prefix, setPrefix] = useState("");
  const wanted = WHOLE.test(prefix) ? { prefix } : {};
  const { pages, items, again } = useList(["admin", "api-keys", wanted], ["ApiKey"], (query) =>
    ask(api.GET("/api/v1/api-keys", { params: { query: { ...query, ...wanted } } })),
  );
  const shown = items.filter((one) => voided || !one.revoked);
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">A key does what its owner may at that moment, or less. It is shown once.</p>
        <Field
          label="Begins with"
          placeholder="flk_…"
          spellCheck={false}
          autoComplete="off"
          value={prefix}
          onChange={(event) => setPrefix(cut(event.target.value))}
        />
        <button type="button" className="chip" aria-pressed={voided} onClick={() => setVoided(!voided)}>
          revoked too
        </button>
        {manage && (
          <Button look="primary" onClick={() => setMaking(true)}>
            New key
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && shown.length === 0 && (
        <div className="empty">
          <h2>
            {items.length > 0 ? "Every key is revoked" : prefix !== "" ? "No key begins so" : "There is no key yet"}
          </h2>
          <p>Programs call with a key. People log in instead.</p>
        </div>
      )}
      {shown.length > 0 && (
        <div className="card">
          <Table
            title="API keys"
            heads={["Name", "Begins with", "Owner", "May", "Unattended", "Last used", "Expires", ""]}
          >
            {shown.map((one) => (
              <Row key={one.id} item={one} manage={manage} onDone={again} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {making && (
        <NewKey
          onClose={() => {
            setMaking(false);
            void again();
          }}
        />
      )}
    </>
  );
}

function Row({ item, manage, onDone }: { item: Key; manage: boolean; onDone: () => unknown }) {
  const over = item.expires_at !== null && Date.parse(item.expires_at) < Date.now();
  return (
    <tr>
      <th scope="row">{item.name}</th>
      <td>
        <code>{item.prefix}</code>
      </td>
      <td>
        {item.owner ??
          (item.owner_id === null ? (
            <Status tone="warn" shape="dash">
              no owner: replace it
            </Status>
          ) : (
            ""
          ))}
      </td>
      <td>
        {item.grants === null ? (
          <span className="muted">all that its owner may</span>
        ) : (
          <GrantList grants={item.grants} none="nothing" />
        )}
      </td>
      <td>{item.unattended ? "yes" : ""}</td>
      <td>
        <Time at={item.last_used_at} />
      </td>
      <td>
        {over ? (
          <Status tone="warn" shape="clock">
            expired
          </Status>
        ) : (
          <Time at={item.expires_at} />
        )}
      </td>
      <td>
        {item.revoked ? (
          <Status tone="off" shape="cross">
            revoked
          </Status>
        ) : (
          manage && <RevokeKey item={item} onDone={onDone} />
        )}
      </td>
    </tr>
  );
}

function NewKey({ onClose }: { onClose: () => void }) {
  const me = useMe();
  const everyone = useMayEverywhere()("people.see");
  const [name, setName] = useState("");
  const [owner, setOwner] = useState(me?.user_id ?? "");
  const [role, setRole] = useState("");
  const [over, setOver] = useState("everything");
  const [days, setDays] = useState("90");
  const [unattended, setUnattended] = useState(false);
  const users = useEvery(
    ["admin", "owners"],
    (query) => ask(api.GET("/api/v1/users", { params: { query } })),
    everyone,
  );
  const make = useChange(() =>
    ask(
      api.POST("/api/v1/api-keys", {
        body: {
          name,
          owner_id: owner,
          grants: role === "" ? null : [placed(role, over)],
          expires_at: days === "" ? null : inDays(Number(days)),
          unattended,
        },
      }),
    ),
  );
  const own = owner === me?.user_id;
  const waits = waitingSecret(make.error);
  const key = make.data?.key ?? waits;
  if (key != null) {
    return (
      <Dialog title="The key" onClose={onClose} footer={<Button onClick={onClose}>I have it</Button>}>
        <Once text={key} label="the key">
          Copy it now: it is shown this once, and nobody can read it later.
          {waits !== null && " It opens nothing until another person has approved it."}
        </Once>
      </Dialog>
    );
  }
  return (
    <FormDialog title="New key" send="Make it" change={make} disabled={owner === ""} onClose={onClose}>
      <Field
        label="Name"
        required
        maxLength={200}
        hint="What it is for: nobody sees the key itself again."
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Pick
        label="Owner"
        value={owner}
        onChoose={setOwner}
        more={users.more}
        options={users.items
          .filter((one) => !one.disabled)
          .map(({ id, name: called, kind }) => ({
            value: id,
            label: kind === "service" ? `${called} (service account)` : called,
          }))}
      >
        {owner === "" && <option value="">Choose one</option>}
        {!everyone && me?.user_id != null && <option value={me.user_id}>{me.name ?? "yourself"}</option>}
      </Pick>
      <GrantFields
        role={role}
        over={over}
        none={own ? "all that you may, as it changes" : "all that its owner is granted now, and no more later"}
        onRole={setRole}
        onOver={setOver}
      />
      <Choice label="Expires" value={days} onChoose={setDays}>
        <option value="1">in a day</option>
        <option value="30">in 30 days</option>
        <option value="90">in 90 days</option>
        <option value="365">in a year</option>
        <option value="">never</option>
      </Choice>
      <label className="row">
        <input type="checkbox" checked={unattended} onChange={(event) => setUnattended(event.target.checked)} />
        It may do what a person has to prove themselves for
      </label>
    </FormDialog>
  );
}
