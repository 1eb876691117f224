// The card of the default model in the repository: who serves the folder as it is gets its list of files from it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
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
