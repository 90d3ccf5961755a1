import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState, useSyncExternalStore } from "react";
import { api, ask } from "../api/client";
import { passkeysWork, signWithPasskey } from "../login/passkey";
import { useGoToProvider, useProvider } from "../login/provider";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";

let waiting: ((proved: boolean) => void)[] = [];
const listeners = new Set<() => void>();

function tell(): void {
  for (const listener of listeners) listener();
}

/** Have the person show once more that it is them; false where they would rather not. */
export function askForProof(): Promise<boolean> {
  return new Promise((resolve) => {
    waiting = [...waiting, resolve];
    tell();
  });
}

function settle(proved: boolean): void {
  const all = waiting;
  waiting = [];
  for (const resolve of all) resolve(proved);
  tell();
}

/** The window that `askForProof` opens. */
export function Proof() {
  const asked = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => waiting.length > 0,
  );
  return asked ? <ProofDialog /> : null;
}

function ProofDialog() {
  const [text, setText] = useState("");
  const prove = useMutation({
    mutationFn: () => {
      const value = text.trim();
      const body = /^\d{6}$/.test(value) ? { code: value } : { password: text };
      return ask(api.POST("/api/v1/session/proof", { body }));
    },
    onSuccess: () => settle(true),
  });
  const byPasskey = useMutation({
    mutationFn: async () => {
      const { options } = await ask(api.POST("/api/v1/session/proof/passkey/options", { body: {} }));
      const credential = await signWithPasskey(options);
      return ask(api.POST("/api/v1/session/proof/passkey", { body: { credential } }));
    },
    onSuccess: () => settle(true),
  });
  const provider = useProvider();
  const byProvider = useGoToProvider("proof");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    prove.mutate();
  };
  return (
    <Dialog
      title="Is it you?"
      brief
      onClose={() => settle(false)}
      footer={
        <>
          <Button onClick={() => settle(false)}>Cancel</Button>
          <Button look="primary" type="submit" form="proof" busy={prove.isPending}>
            Go on
          </Button>
        </>
      }
    >
      <form id="proof" className="stack" onSubmit={submit}>
        <p className="muted">This can do harm, so it asks for your password, or a code from your device, once more.</p>
        <Field
          label="Password or code"
          type="password"
          autoComplete="current-password"
          required
          autoFocus
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <Fault error={prove.error ?? byPasskey.error ?? byProvider.error} />
        {passkeysWork() && (
          <Button busy={byPasskey.isPending} onClick={() => byPasskey.mutate()}>
            Use a passkey
          </Button>
        )}
        {provider !== null && (
          <Button busy={byProvider.isPending} onClick={() => byProvider.mutate()}>
            Go to {provider}, and do it again afterwards
          </Button>
        )}
      </form>
    </Dialog>
  );
}
