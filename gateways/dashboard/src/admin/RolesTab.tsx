import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Status } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { toastError } from "../ui/Toasts";
import { RoleDialog } from "./RoleDialog";

type Role = components["schemas"]["RoleModel"];

/** What each role allows, in words. */
export default function RolesTab() {
  const manage = useMayEverywhere()("roles.manage");
  const [changed, setChanged] = useState<Role | "new" | null>(null);
  const { pages, items, again } = useList(["admin", "roles"], ["Role"], (query) =>
    ask(api.GET("/api/v1/roles", { params: { query } })),
  );
  const permissions = useQuery({
    queryKey: ["permissions"],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => ask(api.GET("/api/v1/permissions")),
  });
  const about = new Map<string, string>(permissions.data?.items.map((one) => [one.name, one.about]));
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          A role is a named set of permissions, given over everything, over clients or over sites. A change of one holds
          at once.
        </p>
        {manage && (
          <Button look="primary" onClick={() => setChanged("new")}>
            New role
          </Button>
        )}
      </div>
      <Fault error={pages.error ?? permissions.error} retry={() => pages.refetch()} />
      <div className="stack">
        {items.map((one) => (
          <RoleCard
            key={one.id}
            role={one}
            about={about}
            onChange={manage && !one.built_in && !one.retired ? () => setChanged(one) : undefined}
            onDone={again}
          />
        ))}
      </div>
      <More of={pages} />
      {changed !== null && (
        <RoleDialog
          {...(changed === "new" ? {} : { role: changed })}
          about={about}
          onDone={again}
          onClose={() => setChanged(null)}
        />
      )}
    </>
  );
}

interface CardProps {
  role: Role;
  about: ReadonlyMap<string, string>;
  /** Of one that may be changed. */
  onChange: (() => void) | undefined;
  onDone: () => unknown;
}

function RoleCard({ role, about, onChange, onDone }: CardProps) {
  const path = { role_id: role.id };
  const retire = useChange(
    () => ask(api.POST("/api/v1/roles/{role_id}/retire", { params: { path }, body: { reason: "" } })),
    onDone,
  );
  const all = about.size > 0 && role.permissions.length === about.size;
  return (
    <details className="card role">
      <summary>
        <strong>{role.name}</strong>{" "}
        <span className="muted">
          {role.built_in ? "built in, " : ""}
          {all
            ? "everything"
            : role.permissions.length === 1
              ? "1 permission"
              : `${role.permissions.length} permissions`}
        </span>{" "}
        {role.retired && (
          <Status tone="off" shape="cross">
            retired: allows nothing
          </Status>
        )}
      </summary>
      {onChange !== undefined && (
        <div className="row pad">
          <Button onClick={onChange} aria-label={`Change ${role.name}`}>
            Change
          </Button>
          <SureButton
            sure="Retire: it allows nothing any more"
            busy={retire.isPending}
            onClick={() => retire.mutate(undefined, { onError: toastError })}
          >
            Retire
          </SureButton>
        </div>
      )}
      <Limits limits={role.limits} />
      <dl className="permissions">
        {role.permissions.map((one) => (
          <div key={one}>
            <dt className="mono">{one}</dt>
            <dd>{about.get(one) ?? "Not known to this server: it allows nothing."}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

function Limits({ limits }: { limits: Role["limits"] }) {
  const lines = [
    limits.max_agents != null && `No action on more than ${figure(limits.max_agents)} machines.`,
    limits.approval_above != null &&
      `Another person approves what touches more than ${figure(limits.approval_above)} machines.`,
    limits.approval_for !== undefined &&
      limits.approval_for.length > 0 &&
      `Another person approves each use of ${limits.approval_for.join(", ")}.`,
  ].filter((line) => line !== false);
  if (lines.length === 0) return null;
  return (
    <ul className="notice warn plain-list stack">
      {lines.map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  );
}
