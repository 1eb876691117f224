// The card of the default model in the repository: who serves the folder as it is gets its list of files from it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from './fixtures.mjs';

const folder = join(root, 'models/small-world');

test("the default model's card lists its files as they are", () => {
  const { files } = JSON.parse(readFileSync(join(folder, 'tabreel.json'), 'utf8'));
  assert.ok(files.length > 8);
  for (const { path, bytes, sha256 } of files) {
    const file = readFileSync(join(folder, path));
    assert.deepEqual({ bytes: file.length, sha256: createHash('sha256').update(file).digest('hex') }, { bytes, sha256 }, path);
  }
});

test('nothing that is shipped tells a path of the machine that made it', () => {
  const models = join(root, 'models');
  const files = readdirSync(models, { recursive: true }).filter((path) => statSync(join(models, path)).isFile());
  assert.ok(files.includes(join('small-world', 'transformer', 'config.json')));
  for (const path of files) {
    // Headers of weights and texts in pictures too. `_name_or_path` is what diffusers and transformers leave of `from_pretrained`.
    const found = /"_name_or_path"|(?<![\w.:/])\/(?:home|Users|root|work|tmp|mnt|var)\/\w.{0,40}/.exec(
      readFileSync(join(models, path), 'latin1'),
    );
    assert.equal(found?.[0], undefined, path);
  }
});
