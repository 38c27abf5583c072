// Builds esm/use.mjs as a server bundle: `bundle-vite.mjs FOLDER`.
import { build } from 'vite';

await build({
  build: {
    emptyOutDir: false,
    outDir: process.argv[2],
    ssr: new URL('esm/use.mjs', import.meta.url).pathname,
  },
  configFile: false,
  logLevel: 'error',
});
