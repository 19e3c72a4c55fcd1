/**
 * A client of the agent API for apps on Node 22.18 and later, in one file without dependencies: copy it, or import it from here. Bytes are
 * lower-case hex without 0x. docs/agent.md says what each call means and which word of the manifest's `api` it needs.
 *
 *     import { agent } from './agent.ts';
 *     const { key, address } = await agent().key({ tag: 'wallet', type: 'secp256k1' });
 */
import { existsSync } from 'node:fs';
import { request } from 'node:http';

/** Where a container has its socket, and the name of its agent otherwise. */
const SOCKET = '/var/run/dstack/dstack.sock';
const URL_OF_AGENT = 'http://dstack-guest';

export type Algorithm = 'secp256k1' | 'secp256k1_prehashed' | 'ed25519';

export interface Key {
  key: string;
  /** With `chain`, of secp256k1 and ed25519; `address` of secp256k1. */
  publicKey?: string;
  chain?: string[];
  address?: string;
}
export interface Signature {
  signature: string;
  publicKey: string;
  chain: string[];
}
export interface Quote {
  quote: string;
  reportData: string;
  statement: { app: string; manifestHash: string; data: string };
  eventLog: { imr: number; event_type: number; digest: string; event: string; event_payload: string }[];
}
export interface Attestation {
  signature: string;
  digest: string;
  /** Data of an eth_call to the network's contract, which returns 1. */
  call: string;
}
export interface Info {
  app: string;
  appId: string;
  container: string;
  manifestHash: string;
  api: string[];
  node: {
    flavour: 'production' | 'sim' | 'dev';
    measurement: string;
    platform: string;
    disk: { state: string; diskId?: string };
  };
  network: {
    chainId: number;
    contract: string;
    networkKey: string;
    epoch: number;
    config: string;
    rawQuotes?: string;
  };
}
export interface Status {
  epoch: number;
  /** The newest block that the node has accepted, its timestamp, and the node's clock; Unix seconds. */
  block: number;
  blockTime: number;
  now: number;
}

/** A block that a quorum of the network's endpoints shows: `agreeing` of `of`. */
export interface ChainHead {
  number: number;
  hash: string;
  /** Unix seconds. */
  timestamp: number;
  agreeing: number;
  of: number;
}

export interface Agent {
  key(asked: { tag: string; type: 'secp256k1' | 'ed25519' | 'raw'; purpose?: string }): Promise<Key>;
  sign(asked: { tag: string; algorithm: Algorithm; data: string; purpose?: string }): Promise<Signature>;
  verify(asked: {
    algorithm: Algorithm;
    data: string;
    signature: string;
    publicKey: string;
  }): Promise<{ valid: boolean }>;
  quote(asked: { data: string }): Promise<Quote>;
  attest(asked: { tag: string; data: string }): Promise<Attestation>;
  /** The chain as the node reads it. */
  chainHead(): Promise<ChainHead>;
  /** eth_call at such a block; `to` with 0x, as addresses are. */
  chainCall(asked: {
    to: string;
    data: string;
    block: { number: number; hash: string };
  }): Promise<{ data: string }>;
  info(): Promise<Info>;
  status(): Promise<Status>;
}

/** What the agent refused; `NOT_JSON`: what answered is not the agent. `code` is stable; with a status from 500 on, ask again later. */
export class AgentRefusal extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.name = 'AgentRefusal';
    this.code = code;
    this.status = status;
  }
}

/**
 * @param options.socket a path; without it `options.url`; without both the socket that DSTACK_SIMULATOR_ENDPOINT names (`npx dstack agent dev`), the
 * container's own, or http://dstack-guest
 * @param options.timeout milliseconds
 */
export function agent(options: { socket?: string; url?: string; timeout?: number } = {}): Agent {
  const { url = URL_OF_AGENT, timeout = 30_000 } = options;
  const own = process.env.DSTACK_SIMULATOR_ENDPOINT ?? (existsSync(SOCKET) ? SOCKET : undefined);
  const socket = options.socket ?? (options.url === undefined ? own : undefined);

  async function call<T>(method: 'GET' | 'POST', path: string, asked?: object): Promise<T> {
    const body = asked === undefined ? undefined : JSON.stringify(asked);
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const place = socket === undefined ? {} : { socketPath: socket };
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const signal = AbortSignal.timeout(timeout);
      request(new URL(path, url), { ...place, method, headers, signal }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
      })
        .on('error', reject)
        .end(body);
    });
    const reply = parsed(text, path, status);
    if (status !== 200) throw new AgentRefusal(reply.code ?? 'UNKNOWN', reply.message ?? text, status);
    return reply as T;
  }

  /** What is no JSON is of somebody else, or of a server that never looked at the request. */
  function parsed(text: string, path: string, status: number): { code?: string; message?: string } {
    try {
      return JSON.parse(text);
    } catch {
      const message = `${socket ?? url} answered ${path} with status ${status} and no JSON: is it the agent?`;
      throw new AgentRefusal('NOT_JSON', message, status);
    }
  }

  return {
    key: (asked) => call('POST', '/v1/key', asked),
    sign: (asked) => call('POST', '/v1/sign', asked),
    verify: (asked) => call('POST', '/v1/verify', asked),
    quote: (asked) => call('POST', '/v1/quote', asked),
    attest: (asked) => call('POST', '/v1/attest', asked),
    chainHead: () => call('GET', '/v1/chain/head'),
    chainCall: (asked) => call('POST', '/v1/chain/call', asked),
    info: () => call('GET', '/v1/info'),
    status: () => call('GET', '/v1/status'),
  };
}
