import { type ComponentType, type LazyExoticComponent, lazy } from "react";
import type { Permission } from "../api/session";

interface Tab {
  name: string;
  label: string;
  needs: Permission;
  /** It shows what belongs to no client, so that the permission has to be over everything. */
  everywhere?: boolean;
  component: LazyExoticComponent<ComponentType>;
}

/** The parts of Admin, in their order. */
export const TABS: readonly Tab[] = [
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
