// Bundles esm/use.mjs: `bundle-webpack.cjs FOLDER FILE`.
const path = require('node:path');

const webpack = require('webpack');

const [folder, filename] = process.argv.slice(2);
const options = {
  entry: path.join(__dirname, 'esm/use.mjs'),
  mode: 'production',
  output: { filename, path: path.resolve(folder) },
  target: 'node',
};
webpack(options, (error, stats) => {
  if (error ?? stats.hasErrors()) {
    console.error(error ?? stats.toString());
    process.exit(1);
  }
});
