import { type ComponentType, lazy, Suspense } from "react";
import { Link, useParams } from "wouter";
import { type Permission, useMay, useMayEverywhere, useMe } from "../api/session";
import { NotFound } from "../app/NotFound";
import { useTitle } from "../app/title";
import "./admin.css";

interface Tab {
  name: string;
  label: string;
  needs: Permission;
  /** It shows what belongs to no client, so that the permission has to be over everything. */
  everywhere?: boolean;
  component: ComponentType;
}

const TABS: readonly Tab[] = [
  {
    name: "health",
    label: "System health",
    needs: "platform.see",
    everywhere: true,
    component: lazy(() => import("./HealthTab")),
  },
  { name: "clients", label: "Clients", needs: "clients.see", component: lazy(() => import("./ClientsTab")) },
  { name: "fields", label: "Custom fields", needs: "clients.see", component: lazy(() => import("./FieldsTab")) },
  {
    name: "users",
    label: "Users",
    needs: "people.see",
    everywhere: true,
    component: lazy(() => import("./UsersTab")),
  },
  {
    name: "roles",
    label: "Roles",
    needs: "roles.see",
    everywhere: true,
    component: lazy(() => import("./RolesTab")),
  },
  { name: "keys", label: "API keys", needs: "keys.see", component: lazy(() => import("./KeysTab")) },
  { name: "tokens", label: "Enrollment", needs: "enrollment.see", component: lazy(() => import("./TokensTab")) },
  { name: "secrets", label: "Secrets", needs: "secrets.see", component: lazy(() => import("./SecretsTab")) },
  {
    name: "forwarding",
    label: "Forwarding",
    needs: "forwarding.see",
    everywhere: true,
    component: lazy(() => import("./ForwardingTab")),
  },
  { name: "audit", label: "Audit", needs: "events.see", component: lazy(() => import("./AuditTab")) },
  {
    name: "server-keys",
    label: "Server keys",
    needs: "platform.see",
    everywhere: true,
    component: lazy(() => import("./ServerKeysTab")),
  },
  {
    name: "browse",
    label: "Read models",
    needs: "platform.browse",
    everywhere: true,
    component: lazy(() => import("./BrowseTab")),
  },
];

/** On a phone there are more tabs than room. */
function inView(tab: HTMLAnchorElement | null): void {
  tab?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** Fleetlog itself: how it fares, and who may do what in it. */
export default function AdminPage() {
  const { tab } = useParams();
  const may = useMay();
  const everywhere = useMayEverywhere();
  const me = useMe();
  const open = TABS.filter((one) => (one.everywhere ? everywhere : may)(one.needs));
  const here = tab === undefined ? open[0] : open.find((one) => one.name === tab);
  useTitle(here === undefined ? "Admin" : `${here.label} · Admin`);
  if (me === undefined) return <div className="centred muted">Loading…</div>;
  if (here === undefined) return <NotFound />;
  const Content = here.component;
  return (
    <div className="page">
      <header>
        <h1>Admin</h1>
      </header>
      <nav className="tabs" aria-label="Admin">
        {open.map((one) => (
          <Link
            key={one.name}
            ref={one === here ? inView : undefined}
            href={`/admin/${one.name}`}
            aria-current={one === here ? "page" : undefined}
          >
            {one.label}
          </Link>
        ))}
      </nav>
      <Suspense fallback={<div className="muted">Loading…</div>}>
        <Content />
      </Suspense>
    </div>
  );
}
