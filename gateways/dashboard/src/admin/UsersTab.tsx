import { lazy, Suspense, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { More } from "../ui/More";
import { Once } from "../ui/Once";
import { Status } from "../ui/Status";
import { Table } from "../ui/Table";
import { GrantFields, GrantList, placed } from "./Grants";
import { UserDialog } from "./UserDialog";

export type User = components["schemas"]["UserModel"];

const EraseDialog = lazy(() => import("../app/EraseDialog"));

/** Everybody, and every program, that works with the fleet. */
export default function UsersTab() {
  const mayEverywhere = useMayEverywhere();
  const manage = mayEverywhere("users.manage");
  const erase = mayEverywhere("personal.erase");
  const [adding, setAdding] = useState(false);
  const [opened, setOpened] = useState<string | null>(null);
  const [erasing, setErasing] = useState<User | null>(null);
  const { pages, items, again } = useList(["admin", "users"], ["User"], (query) =>
    ask(api.GET("/api/v1/users", { params: { query } })),
  );
  const open = items.find((one) => one.id === opened);
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">People log in; service accounts are for programs, which call with their keys.</p>
        {manage && (
          <Button look="primary" onClick={() => setAdding(true)}>
            Add somebody
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is nobody yet</h2>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Users" heads={["Name", "Kind", "State", "May", ...(manage || erase ? [""] : [])]}>
            {items.map((one) => (
              <tr key={one.id}>
                <th scope="row">
                  {one.name}
                  {one.email !== "" && <div className="muted small">{one.email}</div>}
                </th>
                <td className="nowrap">{one.kind === "service" ? "service account" : "person"}</td>
                <td>
                  {one.erased ? (
                    <Status tone="off" shape="cross">
                      erased
                    </Status>
                  ) : one.disabled ? (
                    <Status tone="warn" shape="bars">
                      suspended
                    </Status>
                  ) : (
                    <Status tone="ok" shape="tick">
                      active
                    </Status>
                  )}
                </td>
                <td>
                  <GrantList grants={[...one.grants, ...one.group_grants]} none="nothing" />
                </td>
                {(manage || erase) && (
                  <td>
                    <div className="row">
                      {manage && !one.erased && (
                        <Button onClick={() => setOpened(one.id)} aria-label={`Change ${one.name}`}>
                          Change
                        </Button>
                      )}
                      {erase && one.disabled && !one.erased && (
                        <Button look="danger" onClick={() => setErasing(one)} aria-label={`Erase ${one.name}`}>
                          Erase…
                        </Button>
                      )}
                    </div>
                  </td>
                )}
              </tr>
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {adding && (
        <NewUser
          onClose={() => {
            setAdding(false);
            void again();
          }}
        />
      )}
      {open !== undefined && <UserDialog user={open} onChanged={again} onClose={() => setOpened(null)} />}
      {erasing !== null && (
        <Suspense>
          <EraseDialog
            kind="user"
            id={erasing.id}
            name={erasing.name}
            onDone={again}
            onClose={() => setErasing(null)}
          />
        </Suspense>
      )}
    </>
  );
}

/** Adds them and, of a person, makes the password that they log in with first. */
function NewUser({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [kind, setKind] = useState<User["kind"]>("person");
  const [role, setRole] = useState("");
  const [over, setOver] = useState("everything");
  const password = useChange((id: string) =>
    ask(api.PUT("/api/v1/users/{user_id}/password", { params: { path: { user_id: id } }, body: {} })),
  );
  const add = useChange(
    () =>
      ask(api.POST("/api/v1/users", { body: { name, kind, email, grants: role === "" ? [] : [placed(role, over)] } })),
    (made) => {
      if (kind === "person") password.mutate(made.id);
      else onClose();
    },
  );
  if (add.isSuccess && kind === "person") {
    return (
      <Dialog title={`${name} is added`} onClose={onClose} footer={<Button onClick={onClose}>Done</Button>}>
        {password.data?.password != null ? (
          <Once text={password.data.password} label="the password">
            Give {name} this password, by a way that nobody else reads. It is shown this once. At the first login they
            choose one of their own and add a second factor.
          </Once>
        ) : password.isPending ? (
          <p className="muted">Making a password…</p>
        ) : (
          <div className="stack">
            <p>They have no password yet, and cannot log in. You can make one later, under Change.</p>
            <Fault error={password.error} />
          </div>
        )}
      </Dialog>
    );
  }
  return (
    <FormDialog title="Add somebody" send="Add" change={add} onClose={onClose}>
      <label className="field">
        <strong>Kind</strong>
        <select
          className="input"
          value={kind}
          onChange={(event) => setKind(event.target.value === "service" ? "service" : "person")}
        >
          <option value="person">a person, who logs in</option>
          <option value="service">a service account, whose keys programs call with</option>
        </select>
      </label>
      <Field label="Name" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
      {kind === "person" && (
        <Field label="Email" type="email" value={email} onChange={(event) => setEmail(event.target.value)} />
      )}
      <GrantFields role={role} over={over} none="none yet: may do nothing" onRole={setRole} onOver={setOver} />
    </FormDialog>
  );
}
