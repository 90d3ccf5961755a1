import { Link } from "wouter";
import { useTitle } from "./title";

export function NotFound() {
  useTitle("Not found");
  return (
    <div className="empty">
      <h1>There is no such page</h1>
      <p>The address may be mistyped, or of something that you may not see.</p>
      <Link href="/" className="button">
        To the fleet
      </Link>
    </div>
  );
}
