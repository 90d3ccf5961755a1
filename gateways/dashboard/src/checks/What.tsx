import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useEvery } from "../app/every";
import { type Shell, ShellChoice } from "../run/how";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";
import { Pick } from "../ui/Pick";
import { type Check, KINDS } from "./state";

export type Kind = Check["what"]["kind"];

/** What a check measures, as it is typed. */
export interface Draft {
  kind: Kind;
  about: string;
  port: string;
  warning: string;
  error: string;
  samples: string;
  severity: "info" | "warning" | "error";
  shell: Shell;
  timeout: string;
  warningCodes: string;
  infoCodes: string;
  revision: number | null;
}

const NEW: Draft = {
  kind: "disk",
  about: "",
  port: "",
  warning: "20",
  error: "10",
  samples: "5",
  severity: "error",
  shell: "sh",
  timeout: "60",
  warningCodes: "",
  infoCodes: "",
  revision: null,
};

const text = (value: number | null | undefined): string => (value == null ? "" : String(value));

export function draftOf(what: Check["what"] | null): Draft {
  if (what === null) return NEW;
  const draft = { ...NEW, kind: what.kind };
  switch (what.kind) {
    case "disk":
      return { ...draft, about: what.path ?? "", warning: text(what.warning), error: text(what.error) };
    case "cpu":
    case "memory":
      return { ...draft, warning: text(what.warning), error: text(what.error), samples: text(what.samples ?? 5) };
    case "service":
      return { ...draft, about: what.service, severity: what.severity ?? "error" };
    case "reach":
      return { ...draft, about: what.host, port: text(what.port), severity: what.severity ?? "error" };
    case "script":
    case "shell": {
      const codes = {
        warningCodes: (what.warning_codes ?? []).join(", "),
        infoCodes: (what.info_codes ?? []).join(", "),
        timeout: text(what.timeout_s ?? 60),
        severity: what.severity ?? "error",
      };
      return what.kind === "script"
        ? { ...draft, ...codes, about: what.script_id, revision: what.revision ?? null }
        : { ...draft, ...codes, about: what.line, shell: what.shell };
    }
  }
}

const number = (typed: string): number | null => (typed.trim() === "" ? null : Number(typed));
const codes = (typed: string): number[] =>
  typed
    .split(/[\s,]+/)
    .filter((one) => one !== "")
    .map(Number);

/** As the server takes it.
 *
 * @param before what it was, of whose script the arguments stay.
 */
export function whatOf(draft: Draft, before: Check["what"] | null): Check["what"] {
  const { kind, about, severity } = draft;
  const limits = { warning: number(draft.warning), error: number(draft.error) };
  const run = {
    timeout_s: Number(draft.timeout),
    warning_codes: codes(draft.warningCodes),
    info_codes: codes(draft.infoCodes),
    severity,
  };
  switch (kind) {
    case "disk":
      return { kind, path: about, ...limits };
    case "cpu":
    case "memory":
      return { kind, samples: Number(draft.samples), ...limits };
    case "service":
      return { kind, service: about, severity };
    case "reach":
      return { kind, host: about, port: number(draft.port), severity, timeout_s: 10 };
    case "script": {
      const args = before?.kind === "script" && before.script_id === about ? before.args : null;
      return { kind, script_id: about, revision: draft.revision, args: args ?? null, ...run };
    }
    case "shell":
      return { kind, shell: draft.shell, line: about, ...run };
  }
}

const OFFERED: Record<Kind, Partial<Draft>> = {
  disk: { warning: "20", error: "10" },
  cpu: { warning: "", error: "95" },
  memory: { warning: "90", error: "" },
  service: {},
  reach: {},
  script: {},
  shell: {},
};
const NEEDS = { script: "commands.script", shell: "commands.shell" } as const;

/** Chooses what is measured, and when that is not as it should be. */
export function WhatFields({ draft, onDraft }: { draft: Draft; onDraft: (draft: Draft) => void }) {
  const may = useMay();
  const set = (changes: Partial<Draft>): void => onDraft({ ...draft, ...changes });
  const { kind } = draft;
  const percent = { type: "number", min: 0.1, max: 99.9, step: "any" } as const;
  const offered = (Object.keys(KINDS) as Kind[]).filter((one) => one === kind || !(one in NEEDS) || may(needed(one)));
  const measured = kind === "disk" || kind === "cpu" || kind === "memory";
  return (
    <>
      <Choice
        label="Measures"
        value={kind}
        onChoose={(value) => set({ kind: value as Kind, about: "", revision: null, ...OFFERED[value as Kind] })}
      >
        {offered.map((one) => (
          <option key={one} value={one}>
            {KINDS[one]}
          </option>
        ))}
      </Choice>
      {kind === "disk" && (
        <Field
          label="Disk"
          hint="Where it is mounted, or its letter; left empty, the fullest."
          value={draft.about}
          onChange={(event) => set({ about: event.target.value })}
        />
      )}
      {kind === "service" && (
        <Field
          label="Service"
          required
          hint="A systemd unit, a Windows service, or a label of launchd."
          value={draft.about}
          onChange={(event) => set({ about: event.target.value })}
        />
      )}
      {kind === "reach" && (
        <>
          <Field label="Host" required value={draft.about} onChange={(event) => set({ about: event.target.value })} />
          <Field
            label="Port"
            type="number"
            min={1}
            max={65535}
            hint="Left empty, the host is pinged."
            value={draft.port}
            onChange={(event) => set({ port: event.target.value })}
          />
        </>
      )}
      {kind === "script" && <ScriptChoice draft={draft} onChoose={(about) => set({ about, revision: null })} />}
      {kind === "shell" && (
        <>
          <ShellChoice shell={draft.shell} onShell={(shell) => set({ shell })} />
          <Field
            label="Line"
            required
            spellCheck={false}
            value={draft.about}
            onChange={(event) => set({ about: event.target.value })}
          />
        </>
      )}
      {measured ? (
        <div className="row wrap">
          <Field
            {...percent}
            label={kind === "disk" ? "Warns below, % free" : "Warns above, % in use"}
            value={draft.warning}
            onChange={(event) => set({ warning: event.target.value })}
          />
          <Field
            {...percent}
            label={kind === "disk" ? "Fails below, % free" : "Fails above, % in use"}
            value={draft.error}
            onChange={(event) => set({ error: event.target.value })}
          />
          {kind !== "disk" && (
            <Field
              type="number"
              min={1}
              max={60}
              label="Mean of so many"
              value={draft.samples}
              onChange={(event) => set({ samples: event.target.value })}
            />
          )}
        </div>
      ) : (
        <Choice
          label={kind === "script" || kind === "shell" ? "Any exit code but 0 and those below" : "Where it does not"}
          value={draft.severity}
          onChoose={(value) => set({ severity: value as Draft["severity"] })}
        >
          <option value="error">fails</option>
          <option value="warning">warns</option>
          <option value="info">informs</option>
        </Choice>
      )}
      {(kind === "script" || kind === "shell") && (
        <div className="row wrap">
          <Field
            label="Exit codes that warn"
            pattern="[\d\s,]*"
            value={draft.warningCodes}
            onChange={(event) => set({ warningCodes: event.target.value })}
          />
          <Field
            label="Exit codes that inform"
            pattern="[\d\s,]*"
            value={draft.infoCodes}
            onChange={(event) => set({ infoCodes: event.target.value })}
          />
          <Field
            type="number"
            min={1}
            max={3600}
            required
            label="Time limit, in seconds"
            value={draft.timeout}
            onChange={(event) => set({ timeout: event.target.value })}
          />
        </div>
      )}
    </>
  );
}

function needed(kind: Kind): "commands.script" | "commands.shell" {
  return kind === "script" ? NEEDS.script : NEEDS.shell;
}

function ScriptChoice({ draft, onChoose }: { draft: Draft; onChoose: (id: string) => void }) {
  const { about: value, revision } = draft;
  const scripts = useEvery(["scripts", "choice"], (query) =>
    ask(api.GET("/api/v1/scripts", { params: { query: { ...query, archived: false } } })),
  );
  return (
    <Pick
      label="Script"
      required
      value={value}
      more={scripts.more}
      hint={
        revision === null
          ? "Its newest revision, as it is now; it takes no placeholders."
          : `Revision ${revision}, as it was; choose it again for the newest.`
      }
      options={scripts.items.map((one) => ({ value: one.id, label: one.name }))}
      onChoose={onChoose}
    >
      <option value="">Choose one</option>
    </Pick>
  );
}
