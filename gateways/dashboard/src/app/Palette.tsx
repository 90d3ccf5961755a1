import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type KeyboardEvent, useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { useLocation } from "wouter";
import { TABS } from "../admin/tabs";
import { api, ask } from "../api/client";
import { type Permission, useMay, useMayEverywhere } from "../api/session";
import { AgentStatus } from "../ui/Status";
import { useEvery } from "./every";
import { ACTIONS, ENTRIES, hasUse } from "./pages";

/** Whether the palette is open; Ctrl-K opens and closes it. */
export function usePalette() {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const press = (event: globalThis.KeyboardEvent): void => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setShown((was) => !was);
      }
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
  return { shown, open: () => setShown(true), close: () => setShown(false) };
}

interface Choice {
  id: string;
  label: React.ReactNode;
  more?: React.ReactNode;
  path: string;
}

/** So many of a kind are offered. */
const SHOWN = 8;
/** Among so many rollouts it looks, the newest ones. */
const NEWEST = 200;
const FRESH_MS = 30_000;

/** Type a few letters of a machine, a script, a rollout or a page, and Enter goes there. */
export function Palette({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const [, go] = useLocation();
  const may = useMay();
  const everywhere = useMayEverywhere();
  const dialog = useRef<HTMLDialogElement>(null);
  const list = useId();
  const wanted = text.trim();
  const agents = useQuery({
    queryKey: ["palette", wanted],
    enabled: wanted !== "" && may("agents.see"),
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => ask(api.GET("/api/v1/agents", { params: { query: { q: wanted, limit: SHOWN } }, signal })),
  });
  // As for any dialog: closed before it goes, so that the focus returns.
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const scripts = useEvery(
    ["scripts", "choice"],
    (query) => ask(api.GET("/api/v1/scripts", { params: { query: { ...query, archived: false } } })),
    wanted !== "" && may("scripts.see"),
  );
  const rollouts = useQuery({
    queryKey: ["palette", "rollouts"],
    enabled: wanted !== "" && may("rollouts.see"),
    staleTime: FRESH_MS,
    queryFn: () => ask(api.GET("/api/v1/rollouts", { params: { query: { limit: NEWEST } } })),
  });
  const fits = (name: string): boolean => name.toLowerCase().includes(wanted.toLowerCase());
  const some = (items: readonly { id: string; name: string }[], kind: "script" | "rollout"): Choice[] =>
    wanted === ""
      ? []
      : items
          .filter((one) => fits(one.name))
          .slice(0, SHOWN)
          .map(({ id, name }) => ({ id, label: name, more: kind, path: `/${kind}s/${id}` }));
  const named = (entry: { label: string; needs: Permission; or?: readonly Permission[] }): boolean =>
    hasUse(entry, may) && fits(entry.label);
  const pages: Choice[] = [
    ...ENTRIES.filter(named).map(({ path, label }) => ({ id: label, label, more: "page", path })),
    ...TABS.filter((tab) => wanted !== "" && (tab.everywhere ? everywhere : may)(tab.needs) && fits(tab.label)).map(
      ({ name, label }) => ({ id: `admin ${name}`, label, more: "Admin", path: `/admin/${name}` }),
    ),
    ...ACTIONS.filter(named).map(({ path, label }) => ({ id: label, label, more: "do", path })),
  ];
  const found: Choice[] = (wanted === "" ? [] : (agents.data?.items ?? [])).map((agent) => ({
    id: agent.id,
    label: (
      <>
        <AgentStatus agent={agent} /> <strong>{agent.name}</strong>
      </>
    ),
    more: [agent.client_name, agent.site_name].filter(Boolean).join(" / "),
    path: `/agents/${agent.id}`,
  }));
  const choices = [
    ...found,
    ...some(scripts.items, "script"),
    ...some(rollouts.data?.items ?? [], "rollout"),
    ...pages,
  ];
  const chosen = Math.min(at, choices.length - 1);
  const open = (choice: Choice | undefined): void => {
    if (choice === undefined) return;
    onClose();
    go(choice.path);
  };
  const press = (event: KeyboardEvent): void => {
    if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, choices.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
    else if (event.key === "Enter") open(choices[chosen]);
    else return;
    event.preventDefault();
  };
  return (
    <dialog
      ref={dialog}
      className="dialog palette"
      aria-label="Find or do"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === dialog.current && onClose()}
      onKeyDown={press}
    >
      <input
        className="input"
        placeholder="A machine, script, rollout or page"
        aria-label="Find or do"
        role="combobox"
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={choices[chosen] && `${list}-${chosen}`}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
      />
      <div id={list} role="listbox" aria-label="Found">
        {choices.map((choice, index) => (
          <div
            key={choice.id}
            id={`${list}-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === chosen}
            onClick={() => open(choice)}
          >
            <span className="row grow clip">{choice.label}</span>
            <span className="muted small">{choice.more}</span>
          </div>
        ))}
      </div>
      {choices.length === 0 && (
        <p className="muted pad">{agents.isFetching ? "Looking…" : "Nothing is called that."}</p>
      )}
    </dialog>
  );
}
