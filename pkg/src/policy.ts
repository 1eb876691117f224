/** Names the directive when a Content-Security-Policy refuses something: browsers tell it by an event and not in the error. */
import { TabreelError } from './errors.js';

/** A scope that hears what its policy refuses: a page or a worker. */
type Scope = Pick<EventTarget, 'addEventListener' | 'removeEventListener'>;

type Refusal = Pick<SecurityPolicyViolationEvent, 'effectiveDirective' | 'blockedURI' | 'disposition'>;

/** Listens to refusals from now on. */
export class PolicyWatch {
  readonly #scope: Scope;
  readonly #refusals: Refusal[] = [];
  readonly #hear = (event: Event): void => void this.#refusals.push(event as SecurityPolicyViolationEvent);

  constructor(scope: Scope = globalThis as unknown as Scope) {
    this.#scope = scope;
    scope.addEventListener?.('securitypolicyviolation', this.#hear);
  }

  end(): void {
    this.#scope.removeEventListener?.('securitypolicyviolation', this.#hear);
  }

  /** The same error, or one that names the directive when a refusal was its reason. */
  async explain(error: TabreelError): Promise<TabreelError> {
    if (!['fetch', 'internal', 'unsupported-device'].includes(error.code)) return error;
    if (/wasm-unsafe-eval|unsafe-eval|Content.Security.Policy|blocked by CSP/i.test(error.message)) {
      return explained('unsupported-device', error, WASM);
    }
    // The event is a task of its own and may come after the error.
    await new Promise((done) => setTimeout(done, 20));
    const why = this.#refusals.filter(({ disposition }) => disposition !== 'report');
    if (why.some(({ blockedURI }) => blockedURI === 'wasm-eval')) return explained('unsupported-device', error, WASM);
    const found = why.find(({ effectiveDirective, blockedURI }) =>
      blockedURI === 'blob' ? effectiveDirective === 'worker-src' : blockedURI !== '' && error.message.includes(blockedURI),
    );
    if (found === undefined) return error;
    const source = found.blockedURI === 'blob' ? 'blob:' : originOf(found.blockedURI);
    return explained('fetch', error, `allow ${source} in ${found.effectiveDirective}`);
  }
}

const WASM = "WebAssembly needs 'wasm-unsafe-eval' in script-src";

const explained = (code: 'fetch' | 'unsupported-device', error: TabreelError, remedy: string): TabreelError =>
  error.message.includes(remedy)
    ? error
    : new TabreelError(code, `the Content-Security-Policy refuses this: ${remedy} (${error.message})`, { cause: error });

function originOf(url: string): string {
  try {
    const { origin } = new URL(url);
    return origin === globalThis.origin ? "'self'" : origin;
  } catch {
    return url;
  }
}
