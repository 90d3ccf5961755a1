import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` shows changes at once, against a Fleetlog that runs on this machine.
const server = process.env.FLEETLOG_URL ?? "http://127.0.0.1:8470";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "static",
    emptyOutDir: true,
    manifest: true,
    target: "es2022",
    // What is bundled comes with its authors' names and licences.
    license: { fileName: "licenses.md" },
    // The policy allows no data: URL but for images, and a file of its own is kept for a year.
    assetsInlineLimit: 0,
  },
  server: { proxy: { "/api": server, "/docs": server, "/openapi.json": server } },
});
