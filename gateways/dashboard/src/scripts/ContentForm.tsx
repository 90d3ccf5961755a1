import { lazy, Suspense } from "react";
import type { components } from "../api/schema";
import { RunAs, ShellChoice, TimeLimit } from "../run/how";
import { PlaceholderArea } from "../run/PlaceholderArea";
import "./scripts.css";

export type Content = components["schemas"]["ScriptContent"];
type Platform = components["schemas"]["Platform"];

const Editor = lazy(() => import("../ui/Editor"));
const PLATFORMS: readonly Platform[] = ["linux", "windows", "macos"];
const DEFAULT_TIMEOUT_S = 300;

interface Props {
  content: Content;
  onContent: (content: Content) => void;
  /** Its environment as lines: what is half typed is no variable yet. */
  env: string;
  onEnv: (env: string) => void;
  /** What belongs above the settings beside the code. */
  children?: React.ReactNode;
}

/** Code and how it is run. */
export function ContentForm({ content, onContent, env, onEnv, children }: Props) {
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
        <ShellChoice shell={content.shell} onShell={(shell) => onContent({ ...content, shell })} />
        <PlaceholderArea
          label="Arguments"
          rows={3}
          placeholder="One a line"
          value={(content.args ?? []).join("\n")}
          onText={(text) => onContent({ ...content, args: text === "" ? [] : text.split("\n") })}
        />
        <PlaceholderArea label="Environment" rows={2} placeholder="NAME=value, one a line" value={env} onText={onEnv} />
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
        <TimeLimit
          value={content.timeout_s ?? DEFAULT_TIMEOUT_S}
          onValue={(value) => onContent({ ...content, timeout_s: Number(value) })}
        />
        <RunAs value={content.run_as ?? ""} onValue={(value) => onContent({ ...content, run_as: value || null })} />
      </div>
    </div>
  );
}
