import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// One entry a screen; a screen without a script simply has no file.
const SCREENS = [
  "app", "public", "home", "trade", "account", "passkey", "operator", "regulator", "check", "notifications", "offline", "sw",
];
const input = Object.fromEntries(
  SCREENS.map((name) => [name, here(`./src/${name}.ts`)]).filter(([, path]) => existsSync(path)),
);

export default defineConfig({
  base: "./", // the address carries a digest of the whole build (settings.STATIC_URL), so files name each other relatively
  worker: { format: "es", rollupOptions: { output: { entryFileNames: "ledger-[name].js" } } },
  build: {
    target: "es2022",
    outDir: here("./dist"),
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: fonts and images would need a wider Content-Security-Policy
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    rollupOptions: {
      input,
      output: {
        // Fixed names: templates name them, and the built files are committed.
        entryFileNames: "[name].js",
        chunkFileNames: "[name].chunk.js",
        assetFileNames: "[name][extname]",
      },
    },
  },
});
