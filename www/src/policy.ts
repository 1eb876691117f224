/** What the page's own Content-Security-Policy lets it fetch: plugins/strict-page.ts writes it. */

const HUB = 'https://huggingface.co';

/** The full address of a file or folder; `owner/name` is a repository on the hub, as the package reads it. */
export function fullAddress(address: string): string {
  const repository = /^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(address);
  return new URL(repository ? `${HUB}/${address}/` : address, document.baseURI).href;
}

/** True if this page may fetch from there. */
export function mayFetch(address: string): boolean {
  const policy = document.querySelector<HTMLMetaElement>('meta[http-equiv="Content-Security-Policy"]')?.content;
  // The dev server has none.
  if (policy === undefined) return true;
  const sources = /(?:^|;)\s*connect-src\s+([^;]*)/.exec(policy)?.[1]?.trim().split(/\s+/) ?? [];
  const { origin, protocol } = new URL(fullAddress(address));
  return sources.some((source) => source === origin || source === protocol || (source === "'self'" && origin === location.origin));
}
