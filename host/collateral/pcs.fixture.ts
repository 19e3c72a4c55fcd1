/** A Provisioning Certification Service on loopback, which speaks the formats of Intel's, or of a PCCS. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';

export type Dialect = 'intel' | 'pccs';
/** Which of the service's answers a path is. */
export type Part = 'tcb' | 'identity' | 'pckcrl' | 'rootcacrl' | 'intel-root';

export interface TestPcs {
  url: string;
  /** Paths with queries, in the order in which they were asked. */
  readonly asked: string[];
  /** Answers in place of the service's: for what a hostile one would do. */
  override: Partial<Record<Part, (request: IncomingMessage, response: ServerResponse) => void>>;
  /** What it publishes, of one kind of platform. */
  collateral: Collateral;
  close(): Promise<void>;
}

/** @param tls a key and a certificate, PEM: then it speaks https */
export async function startPcs(
  collateral: Collateral,
  dialect: Dialect = 'intel',
  tls?: { key: string; cert: string },
): Promise<TestPcs> {
  const pcs: TestPcs = { url: '', asked: [], override: {}, collateral, close: async () => {} };
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    pcs.asked.push(request.url ?? '');
    const part = partOf(request.url ?? '');
    if (part === undefined) {
      response.writeHead(404).end();
      return;
    }
    const own = pcs.override[part];
    if (own !== undefined) own(request, response);
    else answer(part, pcs.collateral, dialect, request.url ?? '', response);
  };
  const server = tls === undefined ? createServer(handle) : createTlsServer(tls, handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  pcs.url = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  pcs.close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return pcs;
}

function partOf(url: string): Part | undefined {
  const { pathname } = new URL(url, 'http://127.0.0.1');
  if (/^\/(sgx|tdx)\/certification\/v4\/tcb$/.test(pathname)) return 'tcb';
  if (/^\/(sgx|tdx)\/certification\/v4\/qe\/identity$/.test(pathname)) return 'identity';
  if (pathname === '/sgx/certification/v4/pckcrl') return 'pckcrl';
  if (pathname === '/sgx/certification/v4/rootcacrl') return 'rootcacrl';
  return pathname === '/IntelSGXRootCA.der' ? 'intel-root' : undefined;
}

function answer(
  part: Part,
  collateral: Collateral,
  dialect: Dialect,
  url: string,
  response: ServerResponse,
): void {
  const json = (name: string, text: string, signature: string) =>
    response.end(`{"${name}":${text},"signature":"${signature}"}`);
  const crl = (hex: string) => response.end(dialect === 'pccs' ? hex : Buffer.from(hex, 'hex'));
  const chain = (name: string, pem: string) => response.setHeader(name, encodeURIComponent(pem));
  switch (part) {
    case 'tcb': {
      const { fmspc } = JSON.parse(collateral.tcb_info) as { fmspc: string };
      if (new URL(url, 'http://x').searchParams.get('fmspc')?.toLowerCase() !== fmspc.toLowerCase()) {
        response.writeHead(404).end();
        return;
      }
      chain('TCB-Info-Issuer-Chain', collateral.tcb_info_issuer_chain);
      json('tcbInfo', collateral.tcb_info, collateral.tcb_info_signature);
      return;
    }
    case 'identity':
      chain('SGX-Enclave-Identity-Issuer-Chain', collateral.qe_identity_issuer_chain);
      json('enclaveIdentity', collateral.qe_identity, collateral.qe_identity_signature);
      return;
    case 'pckcrl':
      chain('SGX-PCK-CRL-Issuer-Chain', collateral.pck_crl_issuer_chain);
      crl(collateral.pck_crl);
      return;
    case 'rootcacrl':
      crl(collateral.root_ca_crl);
      return;
    case 'intel-root':
      response.end(Buffer.from(collateral.root_ca_crl, 'hex'));
      return;
  }
}
