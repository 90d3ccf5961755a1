import { Status } from "../ui/Status";
import { useCounts } from "./agents";
import { type Filter, has, toggled } from "./filter";

interface Props {
  text: string;
  onText: (text: string) => void;
  filter: Filter;
}

const COUNT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** How many there are in each state, of all else that is asked for; each is a filter, too. */
export function StatusChips({ text, onText, filter }: Props) {
  const { state: _state, online: _online, retired: _retired, pending: _pending, failing: _failing, ...rest } = filter;
  const counts = useCounts(rest).data;
  const waiting = useCounts({ ...rest, retired: false, pending: 1 }).data;
  const failing = useCounts({ ...rest, retired: false, failing: 1 }).data;
  const chip = (key: string, value: string, count: number | undefined, label: React.ReactNode): React.ReactNode => (
    <button
      type="button"
      className="chip"
      aria-pressed={has(text, `${key}:${value}`)}
      onClick={() => onText(toggled(text, key, value))}
    >
      {label} <strong>{count === undefined ? "…" : COUNT.format(count)}</strong>
    </button>
  );
  const offline = counts && counts.total - counts.retired - counts.suspended - counts.online;
  return (
    <div className="row wrap chips" role="group" aria-label="Filter by state">
      {chip(
        "status",
        "online",
        counts?.online,
        <Status tone="ok" shape="full">
          online
        </Status>,
      )}
      {chip(
        "status",
        "offline",
        offline === undefined ? undefined : Math.max(0, offline),
        <Status tone="off" shape="ring">
          offline
        </Status>,
      )}
      {chip(
        "status",
        "suspended",
        counts?.suspended,
        <Status tone="warn" shape="bars">
          suspended
        </Status>,
      )}
      {chip(
        "pending",
        ">0",
        waiting?.total,
        <Status tone="busy" shape="clock">
          with something pending
        </Status>,
      )}
      {(failing?.total ?? 0) > 0 &&
        chip(
          "failing",
          ">0",
          failing?.total,
          <Status tone="bad" shape="cross">
            with a failing check
          </Status>,
        )}
      {(counts?.duplicates ?? 0) > 0 &&
        chip(
          "is",
          "duplicate",
          counts?.duplicates,
          <Status tone="bad" shape="dash">
            two with one identity
          </Status>,
        )}
      {chip(
        "status",
        "retired",
        counts?.retired,
        <Status tone="off" shape="cross">
          retired
        </Status>,
      )}
    </div>
  );
}
