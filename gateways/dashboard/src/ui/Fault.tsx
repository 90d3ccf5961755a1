import { isProblem, sentence } from "../api/problem";
import { Button } from "./Button";

interface Props {
  error: unknown;
  retry?: () => void;
}

/** What went wrong, where it went wrong, with the code to look it up by. Shows nothing without an error. */
export function Fault({ error, retry }: Props) {
  if (error === null || error === undefined) return null;
  return (
    <div className="notice bad" role="alert">
      <div className="grow">
        <div>{sentence(error)}</div>
        {isProblem(error) && (
          <div className="small muted">
            <a href={error.problem.type}>{error.code}</a> · request {error.problem.instance.replace("urn:uuid:", "")}
          </div>
        )}
      </div>
      {retry !== undefined && (
        <Button look="tiny" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}
