import { useState } from "react";
import { useMay } from "../api/session";
import { Button } from "../ui/Button";
import { toastError } from "../ui/Toasts";
import { collectIds } from "./agents";
import type { Filter } from "./filter";

interface Props {
  selected: ReadonlySet<string>;
  total: number | undefined;
  filter: Filter;
  onSelect: (ids: ReadonlySet<string>) => void;
  onRun: () => void;
}

/** As many as one rollout names one by one. */
const MOST = 20_000;
const COUNT = new Intl.NumberFormat("en");

/** What can be done with all that is selected. */
export function BulkBar({ selected, total, filter, onSelect, onRun }: Props) {
  const may = useMay();
  const [found, setFound] = useState<number | null>(null);
  const all = async (): Promise<void> => {
    setFound(0);
    try {
      onSelect(new Set(await collectIds(filter, MOST, setFound)));
    } catch (error) {
      toastError(error);
    } finally {
      setFound(null);
    }
  };
  const rest = total !== undefined && total > selected.size;
  const can = may("commands.queue") && (selected.size === 1 || may("rollouts.start"));
  return (
    <div className="bulk" role="region" aria-label="Selected machines">
      <strong>{COUNT.format(selected.size)} selected</strong>
      {rest && (
        <Button look="tiny" onClick={all} busy={found !== null}>
          {found !== null
            ? `Found ${COUNT.format(found)}…`
            : total > MOST
              ? `Select the first ${COUNT.format(MOST)} that match`
              : `Select all ${COUNT.format(total)} that match`}
        </Button>
      )}
      <Button look="plain tiny" onClick={() => onSelect(new Set())}>
        Select none
      </Button>
      <div className="grow" />
      {can && (
        <Button look="primary" onClick={onRun}>
          Run… <kbd>r</kbd>
        </Button>
      )}
    </div>
  );
}
