import type { VisibilityState } from "@tanstack/react-table";
import { useMenu } from "../ui/menu";
import { COLUMNS } from "./columns";

interface Props {
  shown: VisibilityState;
  onChoose: (shown: VisibilityState) => void;
}

/** Which columns the table has. */
export function ColumnChoice({ shown, onChoose }: Props) {
  const menu = useMenu();
  return (
    <details className="menu columns-menu" ref={menu}>
      <summary className="button">Columns</summary>
      <fieldset className="menu-body">
        <legend className="hidden-text">Columns</legend>
        {COLUMNS.filter((one) => one.id !== "name").map((one) => {
          const id = String(one.id);
          return (
            <label key={id} className="row">
              <input
                type="checkbox"
                checked={shown[id] !== false}
                onChange={(event) => onChoose({ ...shown, [id]: event.target.checked })}
              />
              {String(one.header)}
            </label>
          );
        })}
      </fieldset>
    </details>
  );
}
