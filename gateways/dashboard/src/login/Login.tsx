import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import { useSessionChanged } from "../api/session";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { passkeysWork, signWithPasskey } from "./passkey";
import { useGoToProvider, useProvider } from "./provider";

/** Name, password and code in one go: whatever is wrong of the three, the server's answer is the same. */
export function Login() {
  useTitle("Log in");
  const changed = useSessionChanged();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const logIn = useMutation({
    mutationFn: () => {
      const typed = code.trim();
      const body = { user, password, bearer: false, ...(typed === "" ? {} : { code: typed }) };
      return ask(api.POST("/api/v1/session", { body }));
    },
    onSuccess: (begun) => changed(begun.csrf_token),
    onError: () => setCode(""),
  });
  const byPasskey = useMutation({
    mutationFn: async () => {
      const { options } = await ask(api.POST("/api/v1/session/passkey/options", { body: {} }));
      const credential = await signWithPasskey(options);
      return ask(api.POST("/api/v1/session/passkey", { body: { credential, bearer: false } }));
    },
    onSuccess: (begun) => changed(begun.csrf_token),
  });
  const provider = useProvider();
  const byProvider = useGoToProvider("login");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    logIn.mutate();
  };
  return (
    <main className="centred">
      <form className="card stack" onSubmit={submit}>
        <div className="row">
          <img src="/icon.svg" alt="" width="26" height="26" />
          <h1>Fleetlog</h1>
        </div>
        <Field
          label="Name"
          autoComplete="username webauthn"
          autoCapitalize="none"
          required
          autoFocus
          value={user}
          onChange={(event) => setUser(event.target.value)}
        />
        <Field
          label="Password"
          type="password"
          autoComplete="current-password"
          required
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
        <Field
          label="Code"
          hint="Six figures from your authenticator app, or a recovery code. At your very first login there is none yet."
          autoComplete="one-time-code"
          autoCapitalize="none"
          spellCheck={false}
          minLength={6}
          maxLength={40}
          value={code}
          onChange={(event) => setCode(event.target.value)}
        />
        <Fault error={logIn.error ?? byPasskey.error ?? byProvider.error} />
        <Button look="primary" type="submit" busy={logIn.isPending}>
          Log in
        </Button>
        {provider !== null && (
          <Button busy={byProvider.isPending} onClick={() => byProvider.mutate()}>
            Log in with {provider}
          </Button>
        )}
        {passkeysWork() && (
          <Button busy={byPasskey.isPending} onClick={() => byPasskey.mutate()}>
            Log in with a passkey
          </Button>
        )}
      </form>
    </main>
  );
}
