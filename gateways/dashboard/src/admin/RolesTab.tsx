import { useQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useList } from "../app/list";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Status } from "../ui/Status";

type Role = components["schemas"]["RoleModel"];

/** What each role allows, in words. */
export default function RolesTab() {
  const { pages, items } = useList(["admin", "roles"], ["Role"], (query) =>
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
      <p className="muted">
        A role is a named set of permissions, given over everything, over clients or over sites. A change of one holds
        at once. Make your own with <code>fleetlog roles add</code>.
      </p>
      <Fault error={pages.error ?? permissions.error} retry={() => pages.refetch()} />
      <div className="stack">
        {items.map((one) => (
          <RoleCard key={one.id} role={one} about={about} />
        ))}
      </div>
      <More of={pages} />
    </>
  );
}

function RoleCard({ role, about }: { role: Role; about: ReadonlyMap<string, string> }) {
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
    limits.max_agents != null && `No action on more than ${limits.max_agents.toLocaleString()} machines.`,
    limits.approval_above != null &&
      `Another person approves what touches more than ${limits.approval_above.toLocaleString()} machines.`,
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
