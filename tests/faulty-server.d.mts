/** See faulty-server.mjs. */
export interface Fault {
  status?: number;
  headers?: Record<string, string>;
  ignoreRange?: boolean;
  cutAfter?: number;
  endAfter?: number;
  stallAfter?: number;
  shift?: number;
  total?: number;
  version?: string | null;
  body?: Uint8Array;
  html?: boolean;
  delay?: number;
}
export interface Asked {
  path: string;
  method: string;
  range: [number, number] | undefined;
  headers: Record<string, string | undefined>;
  /** Counts from 0, per path. */
  nth: number;
}
export interface FaultyServer {
  url: string;
  files: Map<string, Uint8Array | string>;
  requests: Asked[];
  fault: (asked: Asked) => Fault | undefined;
  close(): Promise<void>;
}
export function startFaultyServer(): Promise<FaultyServer>;
