/** The GPU adapter: what is known of it, and what to call it. */

/** The GPU adapter as WebGPU describes it; browsers leave out what they hide. */
export interface AdapterFacts {
  /** Such as `nvidia`; empty where the browser does not say. */
  vendor: string;
  /** Such as `ampere`; empty where the browser does not say. */
  architecture: string;
  /** The driver's own words; often empty. */
  description: string;
  /** True when the browser says that this adapter is software, or its name says so. */
  isFallback: boolean;
}

/** The best short name for an adapter; browsers hide some of these fields. */
export function adapterName(adapter: AdapterFacts): string {
  if (adapter.description !== '') return adapter.description;
  const name = [adapter.vendor, adapter.architecture].filter((part) => part !== '').join(' ');
  return name === '' ? 'unnamed adapter' : name;
}

/** Software renderers do not always say that they are: their names do. */
export function looksLikeSoftware(info: { vendor: string; architecture: string; description: string }): boolean {
  const words = `${info.vendor} ${info.architecture} ${info.description}`;
  return /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b|software/i.test(words);
}
