import type { ReactNode } from "react";
import { Link } from "wouter";

/** What a page shows, below the list that it is of. */
export function Crumbs({ to, list, children }: { to: string; list: string; children: ReactNode }) {
  return (
    <div className="stack crumbs">
      <p className="muted small">
        <Link href={to}>{list}</Link>
      </p>
      <h1>{children}</h1>
    </div>
  );
}
