// ESLint for all TypeScript and the scripts; layout is Prettier's. Its packages belong to tools/package.json.
import { createRequire } from 'node:module';

const require = createRequire(new URL('tools/package.json', import.meta.url));
const js = require('@eslint/js');
const globals = require('globals');
const ts = require('typescript-eslint');

export default ts.config(
  { ignores: ['**/dist/', '**/wasm/', 'target*/', 'tests/out/', 'tests/fixtures/', 'pkg/contract/', 'bench/results/'] },
  js.configs.recommended,
  ...ts.configs.recommended,
  {
    rules: {
      eqeqeq: 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-unused-expressions': ['error', { allowShortCircuit: true, allowTernary: true }],
    },
  },
  {
    // A promise that nobody waits for swallows its error.
    files: ['pkg/src/**/*.ts', 'www/src/**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
    },
  },
  { files: ['tests/examples-web/**/*.js'], languageOptions: { globals: globals.browser } },
  { files: ['**/*.mjs'], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
  {
    files: ['www/plugins/offline-worker.js'],
    languageOptions: { globals: { ...globals.serviceworker, VERSION: 'readonly', FILES: 'readonly' } },
  },
  { files: ['eslint.config.js'], languageOptions: { globals: globals.node } },
  { files: ['tests/browser/package.test.mjs'], languageOptions: { globals: { tabreel: 'readonly' } } }, // in the page
  { files: ['tests/browser/store.test.mjs'], languageOptions: { globals: { store: 'readonly' } } }, // in the page
);
