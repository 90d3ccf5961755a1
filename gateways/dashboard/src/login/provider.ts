import { useMutation, useQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";

/** Where the page that a provider sends browsers back to goes on to; it reads this itself. */
const RETURN_TO = "fleetlog-return-to";

/** What people call the provider that they log in through; null where there is none. */
export function useProvider(): string | null {
  const { data } = useQuery({
    queryKey: ["session", "provider"],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => ask(api.GET("/api/v1/session/sso")),
  });
  return data?.name ?? null;
}

/** Go there, and come back to this very page: to log in, or to show once more that it is you. */
export function useGoToProvider(purpose: "login" | "proof") {
  return useMutation({
    mutationFn: async () => {
      const body = { terminal: false };
      const offered =
        purpose === "login"
          ? await ask(api.POST("/api/v1/session/sso/offer", { body }))
          : await ask(api.POST("/api/v1/session/proof/sso/offer", { body }));
      sessionStorage.setItem(RETURN_TO, window.location.pathname + window.location.search);
      window.location.assign(offered.url);
    },
  });
}
