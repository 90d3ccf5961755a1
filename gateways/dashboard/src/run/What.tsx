import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { type Spec, specText } from "./spec";

/** What is run; a script by its name. */
export function What({ spec }: { spec: Spec }) {
  const may = useMay();
  const scriptId = spec.kind === "run_script" ? spec.script_id : undefined;
  const script = useQuery({
    queryKey: ["scripts", scriptId],
    enabled: scriptId !== undefined && may("scripts.see"),
    queryFn: () => ask(api.GET("/api/v1/scripts/{script_id}", { params: { path: { script_id: scriptId ?? "" } } })),
  });
  if (spec.kind !== "run_script" || script.data === undefined)
    return (
      <pre className="what" tabIndex={0}>
        {specText(spec)}
      </pre>
    );
  return (
    <pre className="what" tabIndex={0}>
      <Link href={`/scripts/${scriptId}`}>{script.data.name}</Link>, revision {spec.revision ?? "newest"}
      {spec.args && ` ${spec.args.join(" ")}`}
    </pre>
  );
}
