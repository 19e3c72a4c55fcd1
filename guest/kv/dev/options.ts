/** What `kv start` is told, checked before anything is made of it. Whatever is refused here was typed wrong. */
import { isIPv6 } from 'node:net';
import { join, resolve } from 'node:path';
import { DstackError } from '../../../lib/protocol/errors.ts';

export interface Address {
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface StartFlags {
  readonly data?: string | undefined;
  readonly listen: string;
  readonly plain: boolean;
  readonly 'cert-file'?: string | undefined;
  readonly 'key-file'?: string | undefined;
  readonly etcd?: string | undefined;
}

export interface StartOptions {
  /** Absolute. */
  readonly data: string;
  /** etcd's. */
  readonly socket: string;
  readonly address: Address;
  readonly plain: boolean;
  /** The service's, if it is not one that is made. */
  readonly certificate?: { readonly certificate: string; readonly key: string };
  /** A program instead of the locked package's. */
  readonly etcd?: string;
}

/** Of a unix socket's path, on Linux. */
export const LONGEST_PATH = 107;

/** @throws KV_DATA, KV_PATH_TOO_LONG, KV_LISTEN, KV_PLAIN, KV_CERTIFICATE */
export function startOptions(flags: StartFlags): StartOptions {
  const { plain, etcd, 'cert-file': certificate, 'key-file': key } = flags;
  if (flags.data === undefined) throw new DstackError('KV_DATA', 'say with --data where the store is to be');
  const data = resolve(flags.data);
  const socket = join(data, 'etcd.sock');
  if (Buffer.byteLength(socket) > LONGEST_PATH)
    throw new DstackError(
      'KV_PATH_TOO_LONG',
      `${socket} is too long for a socket (${LONGEST_PATH} bytes): choose a shorter --data`,
    );
  const address = addressOf(flags.listen);
  if ((certificate === undefined) !== (key === undefined))
    throw new DstackError('KV_CERTIFICATE', '--cert-file and --key-file go together');
  if (plain && certificate !== undefined)
    throw new DstackError('KV_PLAIN', '--plain is without TLS: leave out --cert-file and --key-file');
  if (plain && !isLoopback(address.host))
    throw new DstackError(
      'KV_PLAIN',
      `--plain is for this machine alone: listen at 127.0.0.1, not at ${address.host}`,
    );
  return {
    data,
    socket,
    address,
    plain,
    ...(certificate !== undefined && key !== undefined && { certificate: { certificate, key } }),
    ...(etcd !== undefined && { etcd: resolve(etcd) }),
  };
}

/** @throws KV_LISTEN */
function addressOf(text: string): Address {
  const match = /^(?:\[([\da-f:.]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text);
  const [, inBrackets, name, digits] = match ?? [];
  const port = Number(digits);
  const host = inBrackets ?? name;
  if (host === undefined || port > 65_535 || (inBrackets !== undefined && !isIPv6(inBrackets)))
    throw new DstackError('KV_LISTEN', `--listen takes HOST:PORT or [IPV6]:PORT, not ${text}`);
  return { host, port };
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);

/** As clients name it. Who listens everywhere is named by what is always reached: this machine. */
export function urlOf(scheme: 'http' | 'https', { host, port }: Address): string {
  const named = isEverywhere(host) ? 'localhost' : isIPv6(host) ? `[${host}]` : host;
  return `${scheme}://${named}:${port}`;
}

export const isEverywhere = (host: string): boolean => host === '0.0.0.0' || host === '::';
