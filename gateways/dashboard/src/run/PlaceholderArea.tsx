import { type KeyboardEvent, useId, useLayoutEffect, useRef, useState } from "react";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useEvery } from "../app/every";

interface Known {
  name: string;
  about: string;
}

const OF_MACHINES: readonly Known[] = [
  { name: "agent.name", about: "the machine's name" },
  { name: "agent.hostname", about: "what it calls itself" },
  { name: "agent.id", about: "its id" },
  { name: "agent.platform", about: "linux, windows or macos" },
  { name: "site.name", about: "where it stands" },
  { name: "site.id", about: "the id of that" },
  { name: "client.name", about: "whose it is" },
  { name: "client.id", about: "the id of that" },
];

/** What may stand in double braces. */
function usePlaceholders(): readonly Known[] {
  const may = useMay();
  const fields = useEvery(
    ["fields"],
    (query) => ask(api.GET("/api/v1/fields", { params: { query } })),
    may("clients.see"),
  );
  const secrets = useEvery(
    ["placeholders", "secrets"],
    (query) => ask(api.GET("/api/v1/secrets", { params: { query } })),
    may("secrets.see"),
  );
  const named = (kind: string, about: string, items: readonly { name: string }[]): Known[] =>
    [...new Set(items.map((one) => one.name))].map((name) => ({ name: `${kind}.${name}`, about }));
  return [
    ...OF_MACHINES,
    ...named("field", "a field that is filled in", fields.items),
    ...named("secret", "a secret, at delivery", secrets.items),
  ];
}

/** Where a placeholder is being typed: from after its braces to the cursor. */
const BEGUN = /\{\{\s*([A-Za-z][\w.]*|)$/;
const MOST = 8;

interface Props {
  label: string;
  value: string;
  rows: number;
  placeholder?: string;
  required?: boolean;
  /** A window that opens begins here. */
  first?: boolean;
  onText: (text: string) => void;
  /** Ctrl-Enter. */
  onSend?: (event: KeyboardEvent) => void;
}

/** A text in which `{{` offers what may stand there. */
export function PlaceholderArea({ label, value, rows, placeholder, required, first, onText, onSend }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const id = useId();
  const known = usePlaceholders();
  const [cursor, setCursor] = useState<number | null>(null);
  const [at, setAt] = useState(0);
  const begun = cursor === null ? null : BEGUN.exec(value.slice(0, cursor));
  const typed = begun?.[1]?.toLowerCase() ?? "";
  const offered = begun === null ? [] : known.filter((one) => one.name.toLowerCase().includes(typed)).slice(0, MOST);
  const chosen = Math.min(at, offered.length - 1);
  useLayoutEffect(() => {
    if (first) area.current?.setAttribute("autofocus", "");
  }, [first]);
  const take = (one: Known | undefined): void => {
    if (one === undefined || cursor === null || begun === null) return;
    const rest = value.slice(cursor).replace(/^\s*\}\}/, "");
    const before = `${value.slice(0, begun.index)}{{${one.name}}}`;
    onText(before + rest);
    setCursor(null);
    requestAnimationFrame(() => {
      area.current?.focus();
      area.current?.setSelectionRange(before.length, before.length);
    });
  };
  const press = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      onSend?.(event);
      return;
    }
    if (offered.length === 0) return;
    switch (event.key) {
      case "ArrowDown":
        setAt((chosen + 1) % offered.length);
        break;
      case "ArrowUp":
        setAt((chosen + offered.length - 1) % offered.length);
        break;
      case "Enter":
      case "Tab":
        take(offered[chosen]);
        break;
      case "Escape":
        setCursor(null);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className="field completing">
      <label htmlFor={id}>{label}</label>
      <textarea
        ref={area}
        id={id}
        className="input"
        rows={rows}
        spellCheck={false}
        required={required}
        placeholder={placeholder}
        value={value}
        role="combobox"
        aria-autocomplete="list"
        aria-expanded={offered.length > 0}
        aria-controls={`${id}-list`}
        aria-activedescendant={offered.length > 0 ? `${id}-${chosen}` : undefined}
        onChange={(event) => {
          onText(event.target.value);
          setCursor(event.target.selectionStart);
          setAt(0);
        }}
        onKeyDown={press}
        onBlur={() => setCursor(null)}
      />
      <div id={`${id}-list`} role="listbox" aria-label="Placeholders" hidden={offered.length === 0}>
        {offered.map((one, index) => (
          <div
            key={one.name}
            id={`${id}-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === chosen}
            onMouseDown={(event) => {
              event.preventDefault();
              take(one);
            }}
          >
            <code>{one.name}</code> <span className="muted small">{one.about}</span>
          </div>
        ))}
      </div>
    </div>
  );
}
