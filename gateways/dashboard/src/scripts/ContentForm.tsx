import { lazy, Suspense } from "react";
import type { components } from "../api/schema";
import { Field } from "../ui/Field";
import "./scripts.css";

export type Content = components["schemas"]["ScriptContent"];
type Shell = components["schemas"]["Shell"];
type Platform = components["schemas"]["Platform"];

const Editor = lazy(() => import("../ui/Editor"));
const SHELLS: readonly Shell[] = ["sh", "bash", "python", "powershell", "cmd"];
const PLATFORMS: readonly Platform[] = ["linux", "windows", "macos"];
const DEFAULT_TIMEOUT_S = 300;

interface Props {
  content: Content;
  onContent: (content: Content) => void;
  /** What belongs above the settings beside the code. */
  children?: React.ReactNode;
}

/** Code and how it is run. */
export function ContentForm({ content, onContent, children }: Props) {
  const platforms = content.platforms ?? [];
  return (
    <div className="split">
      <Suspense fallback={<div className="editor" />}>
        <Editor
          label="Code"
          language={content.shell}
          text={content.body}
          onText={(body) => onContent({ ...content, body })}
        />
      </Suspense>
      <div className="stack">
        {children}
        <label className="field">
          <strong>Shell</strong>
          <select
            className="input"
            value={content.shell}
            onChange={(event) => onContent({ ...content, shell: event.target.value as Shell })}
          >
            {SHELLS.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <label className="field">
          <strong>Arguments</strong>
          <textarea
            className="input"
            rows={3}
            spellCheck={false}
            placeholder="One a line"
            value={(content.args ?? []).join("\n")}
            onChange={(event) => {
              const args = event.target.value === "" ? [] : event.target.value.split("\n");
              onContent({ ...content, args });
            }}
          />
        </label>
        <fieldset className="row wrap">
          <legend>
            <strong>Platforms</strong> <span className="muted">none means all</span>
          </legend>
          {PLATFORMS.map((one) => (
            <label key={one} className="row">
              <input
                type="checkbox"
                checked={platforms.includes(one)}
                onChange={(event) =>
                  onContent({
                    ...content,
                    platforms: event.target.checked ? [...platforms, one] : platforms.filter((each) => each !== one),
                  })
                }
              />
              {one}
            </label>
          ))}
        </fieldset>
        <Field
          label="Time limit in seconds"
          type="number"
          min={1}
          value={content.timeout_s ?? DEFAULT_TIMEOUT_S}
          onChange={(event) => onContent({ ...content, timeout_s: Number(event.target.value) })}
        />
        <Field
          label="Run as"
          hint="An account of the machine; empty means the agent's own."
          value={content.run_as ?? ""}
          onChange={(event) => onContent({ ...content, run_as: event.target.value || null })}
        />
      </div>
    </div>
  );
}
