import type { ReactNode } from "react";
import type { components } from "../api/schema";
import { Time } from "../ui/Time";

interface Waiting {
  agent: Pick<components["schemas"]["AgentModel"], "state" | "online">;
  notBefore: string | null;
  /** It begins only within some hours. */
  hours: boolean;
  lane: string;
  /** So many go before it in its lane; in words where they were not counted to the end. */
  ahead: number | string;
}

/** Why a command waits that the machine does not have yet, in words; null where it is on its way. */
export function waits({ agent, notBefore, hours, lane, ahead }: Waiting): ReactNode {
  if (agent.state === "suspended") return "The machine is suspended: it gets this once it is resumed.";
  if (notBefore !== null && Date.parse(notBefore) > Date.now()) {
    return (
      <>
        Not before <Time at={notBefore} />
        {agent.online ? "." : ", and the machine is offline now."}
      </>
    );
  }
  if (!agent.online) return "The machine is offline; it gets this when it returns.";
  if (hours) return "It begins only within its hours.";
  if (ahead !== 0) return `Behind ${ahead} more in ${lane === "default" ? "the queue" : `lane ${lane}`}.`;
  return null;
}
