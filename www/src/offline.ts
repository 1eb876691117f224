/** The page without a network: registers the service worker, and says when a new version of the page is ready. */
import { byId } from './dom';

/** Of the page as it was built; written by plugins/offline.ts. */
const version = document.querySelector<HTMLMetaElement>('meta[name="tabreel-version"]')?.content;

/** Never throws: a browser without service workers, a private window or plain http only means no page when offline. */
export async function startOffline(): Promise<void> {
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (workers === undefined) return;
  // The dev server: a built page that was served on this port before must not answer in its place.
  if (version === undefined) {
    for (const old of await workers.getRegistrations().catch(() => [])) await old.unregister();
    return;
  }
  workers.addEventListener('message', ({ data, ports }: MessageEvent<{ type?: string } | null>) => {
    if (data?.type === 'version') ports[0]?.postMessage(version);
  });
  workers.startMessages();
  try {
    await workers.register(new URL('sw.js', document.baseURI));
  } catch {
    return;
  }
  const registration = await workers.ready;
  registration.active?.postMessage({ type: 'opened' });
  if (registration.waiting) await waits(registration.waiting);
  registration.addEventListener('updatefound', () => {
    const next = registration.installing;
    next?.addEventListener('statechange', () => {
      if (next.state === 'installed') void waits(next);
    });
  });
}

/** A worker is ready to replace the one that runs. */
async function waits(worker: ServiceWorker): Promise<void> {
  // This page came from the network and is the new version already: nothing to say.
  if ((await versionOf(worker)) === version) return worker.postMessage({ type: 'take-over' });
  byId('update').hidden = false;
  byId<HTMLButtonElement>('update-reload').onclick = () => {
    // Another tab of the new version may have let it start meanwhile.
    if (worker.state !== 'installed') return location.reload();
    navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
    worker.postMessage({ type: 'take-over' });
  };
}

function versionOf(worker: ServiceWorker): Promise<unknown> {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }: MessageEvent<unknown>) => done(data);
    worker.postMessage({ type: 'version' }, [port2]);
  });
}
