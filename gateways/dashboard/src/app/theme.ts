import { useState } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "fleetlog-theme";

function stored(): Theme {
  const found = localStorage.getItem(KEY);
  return found === "light" || found === "dark" ? found : "system";
}

export function applyTheme(theme: Theme = stored()): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState(stored);
  const choose = (to: Theme): void => {
    localStorage.setItem(KEY, to);
    applyTheme(to);
    setTheme(to);
  };
  return [theme, choose];
}
