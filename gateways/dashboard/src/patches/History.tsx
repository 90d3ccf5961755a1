import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useAfterEvents, usePolling } from "../app/events";
import { specText } from "../run/spec";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { CommandStatus } from "../ui/Status";
import { Section } from "../ui/Table";
import { Time } from "../ui/Time";

type Command = components["schemas"]["CommandModel"];
type Page = components["schemas"]["PageOf_CommandModel_"];
const WORDS = { installed: "installed", failed: "failed", absent: "not offered", held: "held" } as const;
const SHOWN = 20;

interface Props {
  agent: { id: string };
  at: number | null;
  onOpen: (commandId: string) => void;
}

/** Which command installed what, when, and with what outcome. */
export function History({ agent, at, onOpen }: Props) {
  const client = useQueryClient();
  const polling = usePolling();
  const key = ["patches", agent.id, "history", at];
  const history = useInfiniteQuery({
    queryKey: key,
    refetchInterval: at === null && polling,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 20,
        agent_id: agent.id,
        patches: true,
        ...(at === null ? {} : { at }),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/commands", { params: { query } }));
    },
  });
  useAfterEvents(
    (event) => at === null && event.agent_id === agent.id && event.type.startsWith("Command"),
    () => void client.invalidateQueries({ queryKey: key }),
    500,
  );
  const items = history.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <Fault error={history.error} retry={() => history.refetch()} />
      {items.length > 0 && (
        <Section title="Installed and restarted" heads={["When", "What", "Came to"]}>
          {items.map((one) => (
            <tr key={one.id}>
              <td>
                <Time at={one.ended_at ?? one.queued_at} />
              </td>
              <td>
                <button type="button" className="link" onClick={() => onOpen(one.id)}>
                  {specText(one.spec)}
                </button>
              </td>
              <td>
                <CommandStatus state={one.state} />
                <Outcomes of={one} />
              </td>
            </tr>
          ))}
        </Section>
      )}
      <More of={history} />
    </>
  );
}

function Outcomes({ of: one }: { of: Command }) {
  const patched = one.result?.patched;
  const updates = patched?.updates ?? [];
  if (updates.length === 0) return one.detail === "" ? null : <p className="muted small">{one.detail}</p>;
  const more = updates.length - SHOWN + (patched?.more ?? 0);
  return (
    <ul className="plain-list small">
      {updates.slice(0, SHOWN).map((update) => (
        <li key={`${update.name} ${update.version}`}>
          <strong>{update.name}</strong> <span className="mono">{update.version}</span> {WORDS[update.outcome]}
          {update.why ? <span className="muted">: {update.why}</span> : null}
        </li>
      ))}
      {more > 0 && <li className="muted">and {more} more</li>}
    </ul>
  );
}
