import { useState } from "react";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Once } from "../ui/Once";
import { SureButton } from "../ui/SureButton";
import { toast } from "../ui/Toasts";
import { usePlaces } from "./choices";
import { type Grant, GrantFields, placed } from "./Grants";
import { Identities, NameAndMail } from "./UserIdentity";
import type { User } from "./UsersTab";

interface Props {
  user: User;
  onChanged: () => unknown;
  onClose: () => void;
}

/** What a user is called and may, and how they get in. */
export function UserDialog({ user, onChanged, onClose }: Props) {
  return (
    <Dialog title={user.name} onClose={onClose} footer={<Button onClick={onClose}>Close</Button>}>
      <div className="stack">
        {!user.erased && <NameAndMail key={`${user.name} ${user.email}`} user={user} onChanged={onChanged} />}
        <Roles user={user} onChanged={onChanged} />
        {user.kind === "person" && <Login user={user} />}
        {user.kind === "person" && <Identities user={user} />}
        <Access user={user} onChanged={onChanged} />
      </div>
    </Dialog>
  );
}

function Roles({ user, onChanged }: Omit<Props, "onClose">) {
  const places = usePlaces();
  const [role, setRole] = useState("");
  const [over, setOver] = useState("everything");
  const kept = user.grants.map(
    ({ role_id, everything, clients, sites }): Grant => ({ role: role_id, everything, clients, sites }),
  );
  const grant = useChange(
    (grants: Grant[]) =>
      ask(api.PUT("/api/v1/users/{user_id}/grants", { params: { path: { user_id: user.id } }, body: { grants } })),
    () => {
      setRole("");
      return onChanged();
    },
  );
  return (
    <section className="stack" aria-label="Roles">
      <h3>Roles</h3>
      {user.grants.length + user.group_grants.length === 0 && <p className="muted">None: they may do nothing.</p>}
      {user.group_grants.length > 0 && (
        <p className="muted">By groups at the provider: {user.group_grants.map((one) => one.role).join(", ")}.</p>
      )}
      {user.grants.map((one, index) => {
        const where = [...one.clients.map(places.client), ...one.sites.map(places.site)].join(", ");
        const name = `${one.role ?? "an unknown role"} over ${one.everything ? "everything" : where || "nothing"}`;
        return (
          <div className="row" key={name}>
            <span className="grow">{name}</span>
            <Button
              look="danger tiny"
              aria-label={`Take away ${name}`}
              disabled={grant.isPending}
              onClick={() => grant.mutate(kept.filter((_, at) => at !== index))}
            >
              Take away
            </Button>
          </div>
        );
      })}
      <GrantFields role={role} over={over} none="add a role…" onRole={setRole} onOver={setOver} />
      {role !== "" && (
        <Button look="primary" busy={grant.isPending} onClick={() => grant.mutate([...kept, placed(role, over)])}>
          Give it
        </Button>
      )}
      <Fault error={grant.error} />
    </section>
  );
}

function Login({ user }: { user: User }) {
  const path = { user_id: user.id };
  const password = useChange(() => ask(api.PUT("/api/v1/users/{user_id}/password", { params: { path }, body: {} })));
  const factor = useChange(
    () => ask(api.POST("/api/v1/users/{user_id}/second-factor/reset", { params: { path }, body: { reason: "" } })),
    () => toast(`${user.name} adds another second factor at the next login.`),
  );
  const out = useChange(
    () => ask(api.POST("/api/v1/users/{user_id}/sessions/revoke", { params: { path }, body: { reason: "" } })),
    () => toast(`${user.name} is logged out everywhere.`),
  );
  return (
    <section className="stack" aria-label="Login">
      <h3>Login</h3>
      <div className="row wrap">
        <SureButton sure="New password: click again" busy={password.isPending} onClick={() => password.mutate()}>
          New password
        </SureButton>
        <SureButton sure="Reset: click again" busy={factor.isPending} onClick={() => factor.mutate()}>
          Reset second factor
        </SureButton>
        <SureButton sure="Log out: click again" busy={out.isPending} onClick={() => out.mutate()}>
          Log out everywhere
        </SureButton>
      </div>
      {password.data?.password != null && (
        <Once text={password.data.password} label="the password">
          Give {user.name} this password. It is shown this once; they choose their own with it, and are logged out
          wherever they were.
        </Once>
      )}
      <Fault error={password.error ?? factor.error ?? out.error} />
      {isProblem(factor.error, "no_second_factor") && <p className="muted">There is nothing to take away.</p>}
    </section>
  );
}

function Access({ user, onChanged }: Omit<Props, "onClose">) {
  const path = { user_id: user.id };
  const body = { reason: "" };
  const suspend = useChange(
    () =>
      ask(
        user.disabled
          ? api.POST("/api/v1/users/{user_id}/enable", { params: { path }, body })
          : api.POST("/api/v1/users/{user_id}/disable", { params: { path }, body }),
      ),
    () => {
      toast(user.disabled ? `${user.name} may come in again.` : `${user.name} is shut out, with all keys.`);
      return onChanged();
    },
  );
  return (
    <section className="stack" aria-label="Access">
      <h3>Access</h3>
      <div className="row wrap">
        {user.disabled ? (
          <Button busy={suspend.isPending} onClick={() => suspend.mutate()}>
            Let in again
          </Button>
        ) : (
          <SureButton sure="Suspend: click again" busy={suspend.isPending} onClick={() => suspend.mutate()}>
            Suspend
          </SureButton>
        )}
        <span className="muted">A suspended user is shut out at once, with all keys.</span>
      </div>
      <Fault error={suspend.error} />
    </section>
  );
}
