import { useMay } from "../api/session";
import { Button } from "../ui/Button";
import { figure } from "../ui/figure";
import type { Filter } from "./filter";
import { count, NONE, only, type Selection } from "./selection";

interface Props {
  selection: Selection;
  total: number | undefined;
  filter: Filter;
  onSelect: (selection: Selection) => void;
  onRun: () => void;
  onTag: () => void;
}

/** What can be done with all that is selected. */
export function BulkBar({ selection, total, filter, onSelect, onRun, onTag }: Props) {
  const may = useMay();
  const chosen = count(selection);
  const rest = total !== undefined && total > chosen;
  const can = may("commands.queue") && (only(selection) !== undefined || may("rollouts.start"));
  return (
    <div className="bulk" role="region" aria-label="Selected machines">
      <strong>{figure(chosen)} selected</strong>
      {rest && (
        <Button look="tiny" onClick={() => onSelect({ matching: filter, except: new Set(), total })}>
          Select all {figure(total)} that match
        </Button>
      )}
      <Button look="plain tiny" onClick={() => onSelect(NONE)}>
        Select none
      </Button>
      <div className="grow" />
      {may("agents.edit") && <Button onClick={onTag}>Tags…</Button>}
      {can && (
        <Button look="primary" onClick={onRun}>
          Run… <kbd>r</kbd>
        </Button>
      )}
    </div>
  );
}
