import { useQueryClient } from "@tanstack/react-query";
import { Suspense, useEffect, useRef, useState } from "react";
import { Link, Route, Switch, useLocation } from "wouter";
import { api, ask, keepToken } from "../api/client";
import { SESSION, useMay, useMe } from "../api/session";
import { useLiveAgents } from "../fleet/agents";
import { Button } from "../ui/Button";
import { toastError } from "../ui/Toasts";
import { Boundary } from "./Boundary";
import { useChange } from "./change";
import { Help } from "./Help";
import { useKeys } from "./keys";
import { NotFound } from "./NotFound";
import { Palette, usePalette } from "./Palette";
import { Proof } from "./Proof";
import { ENTRIES, hasUse, PAGES } from "./pages";
import { type Theme, useTheme } from "./theme";
import { useWaiting } from "./waiting";

const THEMES: Record<Theme, [Theme, string]> = {
  system: ["light", "◐ System"],
  light: ["dark", "☀ Light"],
  dark: ["system", "☾ Dark"],
};

/** Navigation, and the page beside it. */
export function Shell() {
  const [location] = useLocation();
  const [help, setHelp] = useState(false);
  const palette = usePalette();
  useLiveAgents();
  useKeys([{ key: "?", about: "This help", run: () => setHelp(true) }]);
  return (
    <div className="shell">
      <a href="#page" className="skip">
        Skip to the page
      </a>
      <nav className="side" aria-label="Main">
        <Link href="/" className="brand">
          <img src="/icon.svg" alt="" width="22" height="22" /> Fleetlog
        </Link>
        <Entries />
        <div className="grow" />
        <Button look="plain" className="find" onClick={palette.open}>
          <span>
            Find<span className="wide"> or do…</span>
          </span>
          <kbd className="wide">Ctrl K</kbd>
        </Button>
        <Person />
      </nav>
      <main id="page" tabIndex={-1}>
        <Boundary key={location}>
          <Suspense fallback={<div className="centred muted">Loading…</div>}>
            <Switch>
              {PAGES.map((page) => (
                <Route key={page.path} path={page.path} component={page.component} />
              ))}
              <Route component={NotFound} />
            </Switch>
          </Suspense>
        </Boundary>
      </main>
      {help && <Help onClose={() => setHelp(false)} />}
      {palette.shown && <Palette onClose={palette.close} />}
      <Proof />
    </div>
  );
}

function Entries() {
  const [location] = useLocation();
  const may = useMay();
  const waiting = useWaiting();
  const list = useRef<HTMLUListElement>(null);
  const entries = ENTRIES.filter((entry) => hasUse(entry, may));
  const count = entries.length;
  useEffect(() => {
    // On a telephone the entries are a strip: the one of this page is to be in sight.
    const here = location === "" || count === 0 ? null : list.current?.querySelector("[aria-current]");
    here?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [location, count]);
  return (
    <ul className="entries" ref={list}>
      {entries.map((entry) => {
        const here =
          entry.path === "/" ? location === "/" || location.startsWith("/agents") : location.startsWith(entry.path);
        return (
          <li key={entry.path}>
            <Link href={entry.path} aria-current={here ? "page" : undefined}>
              <span aria-hidden="true" className="icon">
                {entry.icon}
              </span>
              {entry.label}
              {entry.path === "/approvals" && waiting !== null && (
                <>
                  {" "}
                  <span className="badge">
                    {waiting}
                    <span className="hidden-text"> wait for you</span>
                  </span>
                </>
              )}
            </Link>
          </li>
        );
      })}
    </ul>
  );
}

function Person() {
  const me = useMe();
  const client = useQueryClient();
  const [theme, setTheme] = useTheme();
  const out = useChange(
    () => ask(api.POST("/api/v1/session/end")),
    () => {
      keepToken(null);
      client.setQueryData(SESSION, null);
      // Nothing of what this person saw is left for the next one.
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== SESSION[0] });
    },
  );
  const [next, name] = THEMES[theme];
  return (
    <div className="person">
      <Link href="/account" className="clip account-link" title="Your account">
        <span aria-hidden="true">☺</span> <span className="name">{me?.name ?? me?.actor ?? ""}</span>
        <span className="hidden-text">: your account</span>
      </Link>
      <Button look="plain tiny" onClick={() => setTheme(next)} title="Light, dark, or as your system is">
        {name}
      </Button>
      <Button look="plain tiny" busy={out.isPending} onClick={() => out.mutate(undefined, { onError: toastError })}>
        Log out
      </Button>
    </div>
  );
}
