import { useState } from "react";
import { usePlaceChoice } from "../admin/choices";
import { useNames } from "../api/names";
import { parse } from "../fleet/filter";
import { AgentPick } from "../ui/AgentPick";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { ManyPick } from "../ui/ManyPick";
import { type Aim, type MachineType, meansNobody, narrowed, onlyOne } from "./aim";

/** So many are shown one by one. */
const SHOWN = 20;
interface Props {
  aim: Aim;
  /** Of the machine that it began with, where that was one. */
  name: string | undefined;
  onAim: (aim: Aim) => void;
}

/** Whom it is for: what the list had selected to begin with, and whatever is added or taken out here. */
export function Targets({ aim, name, onAim }: Props) {
  const [text, setText] = useState("");
  const places = usePlaceChoice();
  const [added, setAdded] = useState<ReadonlyMap<string, string>>(new Map());
  const wrong = text.trim() === "" ? [] : parse(text).wrong;
  const narrow = (typed: string): void => {
    setText(typed);
    // By the minute, as the list has it: the same text stays the same question.
    onAim({ ...aim, matching: typed.trim() === "" ? null : parse(typed).filter });
  };
  const ofList = text.trim() === "" && aim.matching !== null;
  return (
    <details>
      <summary>For whom: {summary(aim, name)}</summary>
      <div className="stack pad">
        {ofList && (
          <div className="row">
            <span className="grow">All that match what the list shows{left(aim)}.</span>
            <Button look="tiny" onClick={() => onAim({ ...aim, matching: null, except: [] })}>
              Not these
            </Button>
          </div>
        )}
        <Field
          label="All that match"
          hint="As in the fleet's box: web os:linux tag:prod status:online"
          spellCheck={false}
          wrong={wrong.length > 0 ? wrong.join(" ") : undefined}
          value={text}
          onChange={(event) => narrow(event.target.value)}
        />
        <ManyPick
          label="And all of site"
          none="none"
          values={aim.sites}
          options={places.siteOptions}
          more={places.sites.more}
          onValues={(sites) => onAim({ ...aim, sites })}
        />
        <AgentPick
          label="And machine"
          chosen={null}
          without={aim.ids}
          onChoose={(agent) => {
            if (agent === null) return;
            setAdded(new Map([...added, [agent.id, agent.name]]));
            onAim({ ...aim, ids: [...aim.ids, agent.id], except: aim.except.filter((one) => one !== agent.id) });
          }}
        />
        <Chosen aim={aim} name={name} added={added} onAim={onAim} />
        <details>
          <summary>Only some of these: by type, by facts</summary>
          <div className="row wrap top pad">
            <Choice
              label="Type"
              value={aim.types[0] ?? ""}
              onChoose={(value) => onAim({ ...aim, types: value === "" ? [] : [value as MachineType] })}
            >
              <option value="">any</option>
              <option value="server">servers</option>
              <option value="workstation">workstations</option>
            </Choice>
            <Field
              label="Whose facts say"
              hint={'As facts.os_id = "debian" and facts.memory_bytes > 4e9'}
              spellCheck={false}
              value={aim.filter}
              onChange={(event) => onAim({ ...aim, filter: event.target.value })}
            />
          </div>
        </details>
      </div>
    </details>
  );
}

interface ChosenProps extends Props {
  added: ReadonlyMap<string, string>;
}

/** The machines that were chosen one by one. */
function Chosen({ aim, name, added, onAim }: ChosenProps) {
  const shown = aim.ids.slice(0, SHOWN);
  const names = useNames(shown.filter((id) => !added.has(id)));
  if (aim.ids.length === 0) return null;
  const called = (id: string): string =>
    added.get(id) ?? names.get(id)?.name ?? (aim.ids.length === 1 ? name : undefined) ?? `machine …${id.slice(-6)}`;
  return (
    <div className="row wrap" role="group" aria-label="Chosen machines">
      {shown.map((id) => (
        <button
          key={id}
          type="button"
          className="chip"
          aria-label={`Take out ${called(id)}`}
          onClick={() => onAim({ ...aim, ids: aim.ids.filter((one) => one !== id) })}
        >
          <span className="clip">{called(id)}</span> ✕
        </button>
      ))}
      {aim.ids.length > SHOWN && <span className="muted">and {figure(aim.ids.length - SHOWN)} more</span>}
      {aim.ids.length > 1 && (
        <Button look="plain tiny" onClick={() => onAim({ ...aim, ids: [] })}>
          Take all of these out
        </Button>
      )}
    </div>
  );
}

function left({ except }: Aim): string {
  return except.length === 0 ? "" : `, but for ${figure(except.length)}`;
}

function summary(aim: Aim, name: string | undefined): string {
  if (onlyOne(aim) !== undefined) return name ?? "one machine";
  const parts = [
    aim.matching !== null && `all that match${left(aim)}`,
    aim.sites.length > 0 && (aim.sites.length === 1 ? "one site" : `${aim.sites.length} sites`),
    aim.ids.length > 0 && (aim.ids.length === 1 ? "one machine" : `${figure(aim.ids.length)} machines`),
  ].filter(Boolean);
  return meansNobody(aim) ? "nobody yet" : `${narrowed(aim) ? "some of " : ""}${parts.join(", ")}`;
}
