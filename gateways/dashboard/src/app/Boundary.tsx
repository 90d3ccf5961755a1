import { Component, type ReactNode } from "react";
import { Button } from "../ui/Button";

interface State {
  error: Error | null;
}

/** Keeps a fault of one page from taking all others along. */
export class Boundary extends Component<{ children: ReactNode }, State> {
  state: State = { error: null };

  static getDerivedStateFromError(error: Error): State {
    return { error };
  }

  render(): ReactNode {
    const { error } = this.state;
    if (error === null) return this.props.children;
    // A page that was open while the server was renewed asks for files that are gone.
    const renewed = /dynamically imported module|Importing a module/i.test(error.message);
    return (
      <div className="empty">
        <h2>{renewed ? "Fleetlog has been renewed" : "This page met a fault of its own"}</h2>
        <p>{renewed ? "Load the page again to go on." : error.message}</p>
        <Button look="primary" onClick={() => window.location.reload()}>
          Load again
        </Button>
      </div>
    );
  }
}
