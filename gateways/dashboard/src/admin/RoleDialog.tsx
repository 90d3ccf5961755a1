import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import type { Permission } from "../api/session";
import { useChange } from "../app/change";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";

type Role = components["schemas"]["RoleModel"];

interface Props {
  /** The one that is changed; without it one is made. */
  role?: Role;
  /** Every permission there is, with what it is for. */
  about: ReadonlyMap<string, string>;
  onDone: () => unknown;
  onClose: () => void;
}

function figure(text: string): number | null {
  return text === "" ? null : Number(text);
}

/** What a role is called, what it allows, and how much of it without another person. */
export function RoleDialog({ role, about, onDone, onClose }: Props) {
  const [name, setName] = useState(role?.name ?? "");
  const [allowed, setAllowed] = useState<ReadonlySet<string>>(new Set(role?.permissions));
  const [awaited, setAwaited] = useState<ReadonlySet<string>>(new Set(role?.limits.approval_for));
  const [most, setMost] = useState(String(role?.limits.max_agents ?? ""));
  const [above, setAbove] = useState(String(role?.limits.approval_above ?? ""));
  const change = useChange(
    () => {
      const permissions = [...about.keys()].filter((one) => allowed.has(one)) as Permission[];
      const limits = {
        max_agents: figure(most),
        approval_above: figure(above),
        approval_for: permissions.filter((one) => awaited.has(one)),
      };
      const body = { name, permissions, limits };
      if (role === undefined) return ask(api.POST("/api/v1/roles", { body }));
      // Only if nobody has changed it since this window was opened.
      const header = { "If-Match": `"${role.version}"` };
      return ask(api.PATCH("/api/v1/roles/{role_id}", { params: { path: { role_id: role.id }, header }, body }));
    },
    async () => {
      await onDone();
      onClose();
    },
  );
  const areas = [...new Set([...about.keys()].map((one) => one.split(".")[0] ?? ""))];
  const flip = (set: ReadonlySet<string>, one: string): ReadonlySet<string> => {
    const next = new Set(set);
    if (!next.delete(one)) next.add(one);
    return next;
  };
  return (
    <FormDialog
      wide
      title={role === undefined ? "New role" : role.name}
      send={role === undefined ? "Make it" : "Save: it holds at once"}
      change={change}
      onClose={onClose}
    >
      <Field label="Name" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
      <div className="areas">
        {areas.map((area) => (
          <fieldset key={area}>
            <legend>
              <strong>{area}</strong>
            </legend>
            {[...about]
              .filter(([one]) => one.startsWith(`${area}.`))
              .map(([one, text]) => (
                <div key={one} className="permission">
                  <label>
                    <input type="checkbox" checked={allowed.has(one)} onChange={() => setAllowed(flip(allowed, one))} />
                    <span className="mono">{one}</span> <span className="muted">{text}</span>
                  </label>
                  {allowed.has(one) && (
                    <label className="small muted">
                      <input
                        type="checkbox"
                        aria-label={`Another person approves each use of ${one}`}
                        checked={awaited.has(one)}
                        onChange={() => setAwaited(flip(awaited, one))}
                      />
                      each use waits for another person
                    </label>
                  )}
                </div>
              ))}
          </fieldset>
        ))}
      </div>
      <div className="row wrap">
        <Field
          label="At most so many machines in one action"
          hint="Empty does not limit."
          type="number"
          min={1}
          value={most}
          onChange={(event) => setMost(event.target.value)}
        />
        <Field
          label="Another person approves above so many"
          hint="Empty asks nobody."
          type="number"
          min={0}
          value={above}
          onChange={(event) => setAbove(event.target.value)}
        />
      </div>
    </FormDialog>
  );
}
