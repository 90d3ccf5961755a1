import { Suspense } from "react";
import { Link, useParams } from "wouter";
import { useMay, useMayEverywhere, useMe } from "../api/session";
import { NotFound } from "../app/NotFound";
import { useTitle } from "../app/title";
import { TABS } from "./tabs";
import "./admin.css";

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
