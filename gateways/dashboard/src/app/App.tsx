import { useEffect } from "react";
import { useMay, useSession } from "../api/session";
import { startStream, stopStream } from "../api/stream";
import { Login } from "../login/Login";
import { PutInOrder } from "../login/PutInOrder";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Toasts } from "../ui/Toasts";
import { LostConnection } from "./LostConnection";
import { Shell } from "./Shell";

export function App() {
  const session = useSession();
  const may = useMay();
  const current = session.data;
  const hears = current != null && may("events.see");
  useEffect(() => {
    if (!hears) return;
    startStream();
    return stopStream;
  }, [hears]);
  return (
    <>
      <LostConnection />
      {session.isPending ? (
        <div className="centred muted" role="status">
          <span className="spinner" aria-hidden="true" /> Fleetlog
        </div>
      ) : current === undefined ? (
        <main className="centred">
          <div className="card stack">
            <Fault error={session.error} />
            <Button onClick={() => session.refetch()} busy={session.isFetching}>
              Try again
            </Button>
          </div>
        </main>
      ) : current === null ? (
        <Login />
      ) : current.pending.length > 0 ? (
        <PutInOrder session={current} />
      ) : (
        <Shell />
      )}
      <Toasts />
    </>
  );
}
