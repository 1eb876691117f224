// dist/tabreel.bundle.js: what bundle.ts says. The wasm stays a file of its own, at ../wasm from the bundle.
export default {
  input: 'dist/bundle.js',
  output: { file: 'dist/tabreel.bundle.js', format: 'esm', codeSplitting: false, minify: true },
};
