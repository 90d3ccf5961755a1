import type { components } from "../api/schema";
import { type Option, Pick } from "../ui/Pick";
import { usePlaceChoice, usePlaces, useRoles } from "./choices";

type Given = components["schemas"]["GrantModel"];
export type Grant = components["schemas"]["Grant"];

/** "operator over Acme". */
export function GrantList({ grants, none }: { grants: readonly Given[]; none: string }) {
  const places = usePlaces();
  if (grants.length === 0) return <span className="muted">{none}</span>;
  return (
    <ul className="plain-list">
      {grants.map((one) => {
        const over = [...one.clients.map(places.client), ...one.sites.map(places.site)];
        return (
          <li key={`${one.role_id} ${over.join()}`}>
            <strong>{one.role ?? "an unknown role"}</strong>{" "}
            <span className="muted">over {one.everything ? "everything" : over.join(", ") || "nothing"}</span>
          </li>
        );
      })}
    </ul>
  );
}

/** Over what a grant is: as the value of the choice, "everything", "client ID" or "site ID". */
export function placed(role: string, over: string): Grant {
  const [kind, id] = over.split(" ");
  if (kind === "client" && id !== undefined) return { role, everything: false, clients: [id], sites: [] };
  if (kind === "site" && id !== undefined) return { role, everything: false, clients: [], sites: [id] };
  return { role, everything: true, clients: [], sites: [] };
}

interface Props {
  role: string;
  over: string;
  /** What no role at all means; without it there has to be one. */
  none?: string;
  onRole: (role: string) => void;
  onOver: (over: string) => void;
}

/** A role, and over what. */
export function GrantFields({ role, over, none, onRole, onOver }: Props) {
  const roles = useRoles();
  return (
    <>
      <Pick
        label="Role"
        value={role}
        onChoose={onRole}
        more={roles.more}
        options={roles.items.map((one) => ({ value: one.id, label: one.name }))}
      >
        {none !== undefined && <option value="">{none}</option>}
      </Pick>
      {role !== "" && <OverField over={over} label="Over" everything="everything" onOver={onOver} />}
    </>
  );
}

interface OverProps {
  over: string;
  label: string;
  everything: string;
  onOver: (over: string) => void;
}

/** Everything, a client or a site. */
export function OverField({ over, label, everything, onOver }: OverProps) {
  const { clients, sites, clientOptions, siteOptions } = usePlaceChoice();
  const of = (kind: string, options: readonly Option[]) =>
    options.map((one) => ({ value: `${kind} ${one.value}`, label: one.label }));
  return (
    <Pick
      label={label}
      value={over}
      onChoose={onOver}
      more={clients.more || sites.more}
      options={[...of("client", clientOptions), ...of("site", siteOptions)]}
    >
      <option value="everything">{everything}</option>
    </Pick>
  );
}
