import { type Revision, useRevisions } from "../scripts/revisions";
import { Choice } from "../ui/Choice";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { variableLines } from "./how";

interface Props {
  script: { id: string; revision: number };
  /** Its number; empty is the newest. */
  value: string;
  onChoose: (value: string) => void;
}

/** Which revision of a script runs, and what it takes along where nothing else is said. */
export function RevisionChoice({ script, value, onChoose }: Props) {
  const { pages, items } = useRevisions(script.id);
  const chosen = items.find((one) => one.revision === (value === "" ? script.revision : Number(value)));
  return (
    <>
      <Choice
        label="Revision"
        value={value}
        onChoose={onChoose}
        hint={chosen === undefined ? undefined : <span aria-live="polite">Its own: {own(chosen)}.</span>}
      >
        <option value="">the newest ({script.revision})</option>
        {items.map((one) => (
          <option key={one.revision} value={String(one.revision)}>
            {one.revision}, of {new Date(one.created_at).toLocaleString()}
          </option>
        ))}
      </Choice>
      <Fault error={pages.error} />
      <More of={pages}>Earlier revisions</More>
    </>
  );
}

/** "bash, at most 17 s, arguments -u now, environment TZ=UTC" */
function own({ shell, timeout_s, args, env, run_as, platforms }: Revision): string {
  return [
    shell,
    `at most ${figure(timeout_s)} s`,
    args.length > 0 && `arguments ${args.join(" ")}`,
    Object.keys(env).length > 0 && `environment ${variableLines(env).replaceAll("\n", " ")}`,
    run_as !== null && `run as ${run_as}`,
    platforms.length > 0 && `only on ${platforms.join(" and ")}`,
  ]
    .filter((part) => part !== false)
    .join(", ");
}
