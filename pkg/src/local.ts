/** A model folder whose files are in hand: dropped, picked, or made by the caller. */
import { cardBytes, parseCard } from './card.js';
import { TabreelError, throwIfAborted } from './errors.js';
import type { ModelFolder } from './folder.js';

type Content = Blob | ArrayBuffer | Uint8Array;

const INDEX = 'model_index.json';

export function localFolder(files: Record<string, Content>): ModelFolder {
  const entries = Object.entries(files).map(([path, file]) => ({ path: path.replaceAll('\\', '/').replace(/^\.?\//, ''), file }));
  const index = entries.find(({ path }) => path === INDEX || path.endsWith(`/${INDEX}`));
  if (index === undefined) {
    throw new TabreelError('weights', `a model folder must hold ${INDEX}; got ${entries.length} files without one`);
  }
  // A folder picker puts the folder's own name in front of every path.
  const prefix = index.path.slice(0, -INDEX.length);
  const inside = new Map(entries.filter(({ path }) => path.startsWith(prefix)).map(({ path, file }) => [path.slice(prefix.length), file]));
  const listed = [...inside].map(([path, file]) => ({ path, bytes: file instanceof Blob ? file.size : file.byteLength }));

  return {
    async card() {
      const sidecar = inside.get('tabreel.json');
      const text = sidecar ? new TextDecoder().decode(await bytesOf(sidecar)) : '{}';
      const card = parseCard(text, 'tabreel.json', listed);
      return { ...card, name: card.name || prefix.replace(/\/$/, '') || 'local folder' };
    },
    async *read(card, { onProgress, signal }) {
      const total = cardBytes(card);
      let loaded = 0;
      for (const { path } of card.files) {
        throwIfAborted(signal, 'loading');
        const file = inside.get(path);
        if (file === undefined) throw new TabreelError('weights', `${path} is missing from the folder`);
        // A copy: the bytes are handed over to the worker, and the caller's must stay usable.
        const bytes = (await bytesOf(file)).slice();
        loaded += bytes.length;
        onProgress?.({ loaded, total, what: path, fromDevice: true });
        yield { path, bytes };
      }
    },
  };
}

async function bytesOf(file: Content): Promise<Uint8Array> {
  if (file instanceof Blob) return new Uint8Array(await file.arrayBuffer());
  return file instanceof Uint8Array ? file : new Uint8Array(file);
}
