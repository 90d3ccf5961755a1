import { type EventType, KINDS } from "../activity/kinds";

interface Props {
  types: readonly EventType[];
  onTypes: (types: EventType[]) => void;
}

/** Which types of events: whole kinds, or single ones of a kind; none means all. */
export function EventTypes({ types, onTypes }: Props) {
  const chosen = new Set(types);
  const set = (some: readonly EventType[], on: boolean): void =>
    onTypes(on ? [...new Set([...types, ...some])] : types.filter((one) => !some.includes(one)));
  return (
    <fieldset className="field">
      <legend>Events</legend>
      <span className="hint">{types.length === 0 ? "None chosen means all." : `${types.length} types`}</span>
      {KINDS.map((kind) => {
        const held = kind.types.filter((one) => chosen.has(one)).length;
        return (
          <details key={kind.name}>
            <summary>
              {kind.label} <span className="muted">{held > 0 && `${held} of ${kind.types.length}`}</span>
            </summary>
            <div className="pad">
              <label className="row">
                <input
                  type="checkbox"
                  checked={held === kind.types.length}
                  onChange={(event) => set(kind.types, event.target.checked)}
                />
                <strong>all of them</strong>
              </label>
              {kind.types.map((type) => (
                <label key={type} className="row">
                  <input
                    type="checkbox"
                    checked={chosen.has(type)}
                    onChange={(event) => set([type], event.target.checked)}
                  />
                  {type}
                </label>
              ))}
            </div>
          </details>
        );
      })}
    </fieldset>
  );
}
