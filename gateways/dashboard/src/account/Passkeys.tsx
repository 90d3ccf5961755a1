import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { makePasskey, passkeysWork } from "../login/passkey";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { SureButton } from "../ui/SureButton";
import { toast } from "../ui/Toasts";

const KEY = ["own", "passkeys"];

/** Devices that log one in without a password. */
export function Passkeys() {
  const client = useQueryClient();
  const [name, setName] = useState<string | null>(null);
  const [other, setOther] = useState<{ id: string; called: string } | null>(null);
  const passkeys = useQuery({ queryKey: KEY, queryFn: () => ask(api.GET("/api/v1/session/passkeys")) });
  const again = () => client.invalidateQueries({ queryKey: KEY });
  const add = useChange(
    async (called: string) => {
      const { options } = await ask(api.POST("/api/v1/session/passkeys/offer", { body: {} }));
      const credential = await makePasskey(options);
      return ask(api.POST("/api/v1/session/passkeys", { body: { name: called, credential } }));
    },
    () => {
      toast("The passkey opens your account from now on.");
      setName(null);
      return again();
    },
  );
  const remove = useChange(
    (id: string) =>
      ask(api.POST("/api/v1/session/passkeys/{passkey_id}/remove", { params: { path: { passkey_id: id } }, body: {} })),
    again,
  );
  const rename = useChange(
    ({ id, called }: { id: string; called: string }) =>
      ask(
        api.POST("/api/v1/session/passkeys/{passkey_id}/rename", {
          params: { path: { passkey_id: id } },
          body: { name: called },
        }),
      ),
    () => {
      setOther(null);
      return again();
    },
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (name !== null) add.mutate(name);
  };
  const items = passkeys.data?.items ?? [];
  return (
    <section className="card account" aria-label="Passkeys">
      <header>
        <h2>Passkeys</h2>
        {passkeysWork() && name === null && <Button onClick={() => setName("")}>Add one</Button>}
      </header>
      {!passkeysWork() && (
        <p className="muted">
          Passkeys are bound to a name: they can be added and used where this page is opened by one, and not by a
          number.
        </p>
      )}
      {passkeysWork() && items.length === 0 && name === null && (
        <p className="muted">A passkey logs you in by a finger or a PIN on your own device, and nobody can phish it.</p>
      )}
      <ul className="plain-list stack">
        {items.map((one) => (
          <li key={one.id} className="row wrap">
            {other?.id === one.id ? (
              <form
                className="row grow"
                onSubmit={(event) => {
                  event.preventDefault();
                  rename.mutate(other);
                }}
              >
                <input
                  className="input"
                  aria-label={`Another name for ${one.name}`}
                  required
                  maxLength={200}
                  // biome-ignore lint/a11y/noAutofocus: it was asked for just now
                  autoFocus
                  value={other.called}
                  onChange={(event) => setOther({ id: one.id, called: event.target.value })}
                />
                <Button look="primary" type="submit" busy={rename.isPending}>
                  Save
                </Button>
                <Button onClick={() => setOther(null)}>Cancel</Button>
              </form>
            ) : (
              <>
                <strong className="grow clip">{one.name}</strong>
                <Button aria-label={`Rename ${one.name}`} onClick={() => setOther({ id: one.id, called: one.name })}>
                  Rename
                </Button>
              </>
            )}
            <SureButton
              sure={`Remove ${one.name}: click again`}
              busy={remove.isPending && remove.variables === one.id}
              onClick={() => remove.mutate(one.id)}
            >
              Remove
            </SureButton>
          </li>
        ))}
      </ul>
      {name !== null && (
        <form className="stack" onSubmit={submit}>
          <Field
            label="Name of the passkey"
            hint="To know it by, such as the device that keeps it."
            required
            maxLength={200}
            autoFocus
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          <div className="row">
            <Button look="primary" type="submit" busy={add.isPending}>
              Add it
            </Button>
            <Button onClick={() => setName(null)}>Cancel</Button>
          </div>
        </form>
      )}
      <Fault error={passkeys.error ?? add.error ?? rename.error ?? remove.error} />
    </section>
  );
}
