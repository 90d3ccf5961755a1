import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { watchAttention } from "./app/attention";
import { queries } from "./app/queries";
import { applyTheme } from "./app/theme";
import "./ui/tokens.css";
import "./ui/base.css";
import "./app/shell.css";

applyTheme();
watchAttention();
const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element named root.");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
