import { type FormEvent, type ReactNode, useState } from "react";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";

interface Props {
  /** What the password is that is changed. */
  current: string;
  onDone: (csrf: string | null) => unknown;
  children?: ReactNode;
}

/** Another password in place of the one that is. */
export function NewPassword({ current: label, onDone, children }: Props) {
  const [current, setCurrent] = useState("");
  const [first, setFirst] = useState("");
  const [again, setAgain] = useState("");
  const change = useChange(
    () => ask(api.POST("/api/v1/session/password", { body: { current, new: first } })),
    (begun) => onDone(begun.csrf_token),
  );
  const differs = again !== "" && again !== first;
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (again === first) change.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {children}
      <Field
        label={label}
        type="password"
        autoComplete="current-password"
        required
        value={current}
        onChange={(event) => setCurrent(event.target.value)}
      />
      <Field
        label="New password"
        hint="12 characters or more. A few words in a row are easy to keep in mind."
        type="password"
        autoComplete="new-password"
        required
        minLength={12}
        value={first}
        onChange={(event) => setFirst(event.target.value)}
      />
      <Field
        label="New password, once more"
        type="password"
        autoComplete="new-password"
        required
        wrong={differs ? "The two differ." : undefined}
        value={again}
        onChange={(event) => setAgain(event.target.value)}
      />
      <Fault error={change.error} />
      <Button look="primary" type="submit" busy={change.isPending} disabled={differs}>
        Change password
      </Button>
    </form>
  );
}
