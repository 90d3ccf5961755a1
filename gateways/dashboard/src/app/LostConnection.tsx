import { probeNow, useConnection } from "../api/connection";
import { Button } from "../ui/Button";
import { Time } from "../ui/Time";

/** Says that nothing on the page is new any more, for as long as that is so. */
export function LostConnection() {
  const { lost, since } = useConnection();
  if (!lost || since === null) return null;
  return (
    <div className="lost" role="alert">
      <span>
        Fleetlog cannot be reached; what you see is from before. Lost <Time at={new Date(since).toISOString()} />.
      </span>
      <Button look="tiny" onClick={probeNow}>
        Try now
      </Button>
    </div>
  );
}
