/** What the page's own Content-Security-Policy lets it fetch: plugins/strict-page.ts writes it. */
import { modelAddress } from 'tabreel';

/** What stands in `connect-src`; undefined where the page has no policy, as on the dev server. */
function sources(): string[] | undefined {
  const policy = document.querySelector<HTMLMetaElement>('meta[http-equiv="Content-Security-Policy"]')?.content;
  if (policy === undefined) return undefined;
  const [, words = ''] = /(?:^|;)\s*connect-src\s+([^;]*)/.exec(policy) ?? [];
  return words.trim().split(/\s+/);
}

/** True if this page may fetch from there. */
export function mayFetch(address: string): boolean {
  const { origin, protocol, host } = new URL(modelAddress(address));
  const allows = (source: string): boolean => {
    if (source === "'self'") return origin === location.origin;
    const [, scheme, domain] = /^(https?:)\/\/\*(\..+)$/.exec(source) ?? [];
    return source === origin || source === protocol || (domain !== undefined && scheme === protocol && host.endsWith(domain));
  };
  return sources()?.some(allows) ?? true;
}

/** "the server it came from", and the hosts that the site's builder named. */
export function allowedWords(): string {
  const others = (sources() ?? []).filter((source) => source.includes('//'));
  return ['the server it came from', ...others.map((source) => source.replace(/^https?:\/\//, ''))].join(', ');
}
