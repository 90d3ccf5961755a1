import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import { useMay, useMe, useSessionChanged } from "../api/session";
import { useChange } from "../app/change";
import { useTitle } from "../app/title";
import { NewPassword } from "../login/NewPassword";
import { RecoveryCodes } from "../login/RecoveryCodes";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { toast } from "../ui/Toasts";
import { OwnKeys } from "./OwnKeys";
import { Passkeys } from "./Passkeys";
import { Sessions } from "./Sessions";
import "./account.css";

/** What is one's own: where one is logged in, and what one logs in with. */
export default function AccountPage() {
  useTitle("Your account");
  const me = useMe();
  const may = useMay();
  return (
    <div className="page narrow">
      <header>
        <h1>{me?.name ?? "Your account"}</h1>
      </header>
      <Sessions />
      <Passkeys />
      <Password />
      <Codes />
      {may("keys.see") && me?.user_id != null && <OwnKeys userId={me.user_id} />}
    </div>
  );
}

function Password() {
  const changed = useSessionChanged();
  const [open, setOpen] = useState(false);
  return (
    <section className="card account" aria-label="Password">
      <header>
        <h2>Password</h2>
        {!open && <Button onClick={() => setOpen(true)}>Change it</Button>}
      </header>
      {open && (
        <NewPassword
          current="The password that you have"
          onDone={async (csrf) => {
            setOpen(false);
            await changed(csrf);
            toast("Your password is changed, and every other session of yours is ended.");
          }}
        />
      )}
    </section>
  );
}

function Codes() {
  const [open, setOpen] = useState(false);
  const [code, setCode] = useState("");
  const renew = useChange(() => ask(api.POST("/api/v1/session/recovery-codes", { body: { code: code.trim() } })));
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    renew.mutate(undefined, { onError: () => setCode("") });
  };
  return (
    <section className="card account" aria-label="Recovery codes">
      <header>
        <h2>Recovery codes</h2>
        {!open && <Button onClick={() => setOpen(true)}>Make new ones</Button>}
      </header>
      {open &&
        (renew.data !== undefined ? (
          <RecoveryCodes
            codes={renew.data.recovery_codes}
            onKept={() => {
              renew.reset();
              setCode("");
              setOpen(false);
            }}
          />
        ) : (
          <form className="stack" onSubmit={submit}>
            <p className="muted">Those that you have open nothing any more once there are new ones.</p>
            <Field
              label="Code"
              hint="Six figures from your authenticator app."
              inputMode="numeric"
              autoComplete="one-time-code"
              required
              minLength={6}
              value={code}
              onChange={(event) => setCode(event.target.value)}
            />
            <Fault error={renew.error} />
            <Button look="primary" type="submit" busy={renew.isPending}>
              Make them
            </Button>
          </form>
        ))}
    </section>
  );
}
