import { Dialog } from "../ui/Dialog";
import { keysNow } from "./keys";

/** What the keyboard does here. */
export function Help({ onClose }: { onClose: () => void }) {
  const keys = [...keysNow(), { key: "Ctrl K", about: "Find a machine or a page, or do something", run: () => {} }];
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <table className="table">
        <tbody>
          {keys.map((one) => (
            <tr key={one.key}>
              <td>
                <kbd>{one.key}</kbd>
              </td>
              <td>{one.about}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="muted small">
        Everything is reached by Tab as well. The API behind these pages is described at <a href="/docs">/docs</a>.
      </p>
    </Dialog>
  );
}
