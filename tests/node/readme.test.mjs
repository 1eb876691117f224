// What the package's README shows compiles: each TypeScript block against the package's own types.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const pkg = join(import.meta.dirname, '../../pkg');
const tsc = join(pkg, '../node_modules/typescript/bin/tsc');

const IMPORTS = `import { Tabreel, drawSmooth, edges, readClip, readPicture, readRecipe, recoverGiven, suggestPrompt, type Clip, type Frame } from 'tabreel';\n`;
/** What the text around the blocks speaks of; a block may give these names to something of its own. */
const AROUND =
  'tabreel: Tabreel, clip: Clip, other: Clip, prompt: string, file: File, canvas: HTMLCanvasElement, show: (frame: Frame) => void';

test('every TypeScript block of pkg/README.md compiles', () => {
  const blocks = [...readFileSync(join(pkg, 'README.md'), 'utf8').matchAll(/^```ts\n(.*?)^```/gms)].map(([, block]) => block);
  assert.ok(blocks.length >= 4);
  const folder = mkdtempSync(join(tmpdir(), 'tabreel-readme-'));
  try {
    blocks.forEach((block, i) => {
      const [own] = /^(?:import .*\n)*/.exec(block);
      const text = `${own || IMPORTS}export const shown = (${own ? 'canvas: HTMLCanvasElement' : AROUND}) => async () => {\n${block.slice(own.length)}};\n`;
      writeFileSync(join(folder, `block-${i + 1}.ts`), text);
    });
    // `../wasm/tabreel.js` may not have been built.
    const rootDirs = [pkg, join(pkg, 'contract')];
    const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false, rootDirs, paths: { tabreel: [join(pkg, 'src/index.ts')] } };
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ extends: join(pkg, 'tsconfig.json'), compilerOptions, include: ['*.ts'] }),
    );
    const { stdout, stderr, status } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    assert.equal(`${stdout}${stderr}`, '');
    assert.equal(status, 0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
