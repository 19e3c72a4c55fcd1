/**
 * Report data: the 64 bytes by which a quote says what it is for. SHA-512 of a length-prefixed list whose first item
 * names the purpose, so a quote made for one purpose never passes for another.
 */
import { fromHex, lengthPrefixed, sha512, uint64, utf8 } from './encoding.ts';
import type { Address } from './hex.ts';
import type { Domain } from './typed-data.ts';

export interface RegisterReport extends Domain {
  node: string;
  kemPublicKey: Uint8Array;
  config: Uint8Array;
  epoch: number;
  blockHash: Uint8Array;
}

export interface BootstrapReport extends Domain {
  networkKey: string;
  config: Uint8Array;
  epoch: number;
  blockHash: Uint8Array;
}

export interface SiteReport extends Domain {
  networkKey: Address;
  /** SubjectPublicKeyInfo of the website's TLS key, DER. */
  publicKey: Uint8Array;
  /** 32 bytes. */
  nonce: Uint8Array;
  config: Uint8Array;
  epoch: number;
  blockHash: Uint8Array;
  hostImpersonable: boolean;
  /** The app that gets quotes over any report data, where there is one. */
  rawQuotes?: string | undefined;
}

export interface LedgerReport extends Domain {
  /** The id of the log, 16 bytes. */
  log: Uint8Array;
  networkKey: Address;
  /** Ed25519, 32 bytes. */
  publicKey: Uint8Array;
  config: Uint8Array;
  epoch: number;
  blockHash: Uint8Array;
}

/** Report data of a quote that asks for the secret. */
export function registerReportData(report: RegisterReport): Uint8Array {
  return sha512(
    lengthPrefixed([
      utf8('dstack/v1/register'),
      uint64(report.chainId),
      fromHex(report.contract, 20),
      fromHex(report.node, 20),
      report.kemPublicKey,
      report.config,
      uint64(report.epoch),
      report.blockHash,
    ]),
  );
}

/** Report data of a quote that says: this machine made this network key. */
export function bootstrapReportData(report: BootstrapReport): Uint8Array {
  return sha512(
    lengthPrefixed([
      utf8('dstack/v1/bootstrap'),
      uint64(report.chainId),
      fromHex(report.contract, 20),
      fromHex(report.networkKey, 20),
      report.config,
      uint64(report.epoch),
      report.blockHash,
    ]),
  );
}

/** Report data of a quote that says: the node that took it ends the website's TLS with this key. */
export function siteReportData(report: SiteReport): Uint8Array {
  return sha512(
    lengthPrefixed([
      utf8('dstack/v1/site'),
      uint64(report.chainId),
      fromHex(report.contract, 20),
      fromHex(report.networkKey, 20),
      report.publicKey,
      report.nonce,
      report.config,
      uint64(report.epoch),
      report.blockHash,
      Uint8Array.of(report.hostImpersonable ? 1 : 0),
      ...(report.rawQuotes === undefined ? [] : [utf8(report.rawQuotes)]),
    ]),
  );
}

/** Report data of a quote that says: the node that took it signs the store's ledger with this key. */
export function ledgerReportData(report: LedgerReport): Uint8Array {
  return sha512(
    lengthPrefixed([
      utf8('dstack/v1/ledger'),
      uint64(report.chainId),
      fromHex(report.contract, 20),
      fromHex(report.networkKey, 20),
      report.log,
      report.publicKey,
      report.config,
      uint64(report.epoch),
      report.blockHash,
    ]),
  );
}

/** Report data of a quote made for an app: `data` is what the app wants bound to it. */
export function appReportData(app: string, manifestHash: Uint8Array, data: Uint8Array): Uint8Array {
  return sha512(lengthPrefixed([utf8('dstack/v1/app'), utf8(app), manifestHash, data]));
}
