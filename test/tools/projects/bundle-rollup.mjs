// Bundles esm/use.mjs with everything it needs: `bundle-rollup.mjs esm|cjs OUTPUT`.
import commonjs from '@rollup/plugin-commonjs';
import json from '@rollup/plugin-json';
import resolve from '@rollup/plugin-node-resolve';
import { rollup } from 'rollup';

const [format, file] = process.argv.slice(2);
const bundle = await rollup({
  input: new URL('esm/use.mjs', import.meta.url).pathname,
  onwarn: () => undefined,
  plugins: [resolve({ exportConditions: ['node'], preferBuiltins: true }), commonjs(), json()],
});
await bundle.write({ file, format });
await bundle.close();
