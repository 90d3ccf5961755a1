import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { SureButton } from "../ui/SureButton";
import { toast } from "../ui/Toasts";
import type { User } from "./UsersTab";

/** What they are called, and where they are written to. */
export function NameAndMail({ user, onChanged }: { user: User; onChanged: () => unknown }) {
  const [name, setName] = useState(user.name);
  const [email, setEmail] = useState(user.email);
  const save = useChange(
    () => ask(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: user.id } }, body: { name, email } })),
    () => {
      toast(`${name} is called and written to like that from now on.`);
      return onChanged();
    },
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    save.mutate();
  };
  const same = name === user.name && email === user.email;
  return (
    <section aria-label="Name">
      <form className="stack" autoComplete="off" onSubmit={submit}>
        <Field label="Name" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
        <Field label="E-mail" type="email" value={email} onChange={(event) => setEmail(event.target.value)} />
        <Fault error={save.error} />
        <div className="row">
          <Button type="submit" busy={save.isPending} disabled={same || name.trim() === ""}>
            Save the name
          </Button>
        </div>
      </form>
    </section>
  );
}

/** Whom the provider may vouch for as this user. */
export function Identities({ user }: { user: User }) {
  const client = useQueryClient();
  const [subject, setSubject] = useState("");
  const [issuer, setIssuer] = useState("");
  const path = { user_id: user.id };
  const key = ["admin", "identities", user.id];
  const identities = useQuery({
    queryKey: key,
    queryFn: () => ask(api.GET("/api/v1/users/{user_id}/identities", { params: { path } })),
  });
  const again = () => client.invalidateQueries({ queryKey: key });
  const link = useChange(
    () =>
      ask(
        api.POST("/api/v1/users/{user_id}/identities", {
          params: { path },
          body: { subject, ...(issuer.trim() === "" ? {} : { issuer: issuer.trim() }) },
        }),
      ),
    () => {
      setSubject("");
      setIssuer("");
      return again();
    },
  );
  const unlink = useChange(
    (id: string) =>
      ask(
        api.POST("/api/v1/users/{user_id}/identities/{identity_id}/remove", {
          params: { path: { ...path, identity_id: id } },
          body: { reason: "" },
        }),
      ),
    () => {
      toast(`It opens nothing any more, and ${user.name} is logged out everywhere.`);
      return again();
    },
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    link.mutate();
  };
  const items = identities.data?.items ?? [];
  return (
    <section className="stack" aria-label="Linked identities">
      <h3>Linked identities</h3>
      {identities.isSuccess && items.length === 0 && (
        <p className="muted">None: no provider can vouch for {user.name} yet.</p>
      )}
      {items.map((one) => (
        <div className="row" key={one.id}>
          <span className="grow breakable">
            <code>{one.subject}</code> <span className="muted">at {one.issuer}</span>
          </span>
          <SureButton
            sure="Unlink: click again"
            busy={unlink.isPending && unlink.variables === one.id}
            onClick={() => unlink.mutate(one.id)}
          >
            Unlink
          </SureButton>
        </div>
      ))}
      <details>
        <summary>Link another</summary>
        <form className="stack pad" autoComplete="off" onSubmit={submit}>
          <Field
            label="Subject"
            hint="What the provider calls them for ever: sub."
            required
            value={subject}
            onChange={(event) => setSubject(event.target.value)}
          />
          <Field
            label="Issuer"
            hint="Left empty, the provider that is set."
            value={issuer}
            onChange={(event) => setIssuer(event.target.value)}
          />
          <div className="row">
            <Button type="submit" busy={link.isPending}>
              Link it
            </Button>
          </div>
        </form>
      </details>
      <Fault error={identities.error ?? link.error ?? unlink.error} />
    </section>
  );
}
