/** Where a node listens, or another one is reached. */
import { isIP } from 'node:net';
import { DstackError } from '../../../lib/protocol/errors.ts';

/** @property key the static key that must be there, in hex; any without */
export interface Address {
  /** An IP address, or a name for the resolver. */
  readonly host: string;
  readonly port: number;
  readonly key?: string;
}

/** What resolvers take (RFC 1123, section 2.1), and the underscore that some networks have in their names. */
const NAME =
  /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?$/i;
/** The end of an IPv4 address, which no name has. */
const NUMERIC_END = /(?:^|\.)\d+\.?$/;
const KEY = /^[0-9a-f]{64}$/;

/**
 * Nothing that Node would refuse by an exception of its own.
 * @param firstPort 0 where a free port may be asked for
 * @throws WIRE_ADDRESS
 */
export function requireAddress({ host, port, key }: Address, firstPort: 0 | 1): void {
  if (isIP(host) === 0 && (!NAME.test(host) || NUMERIC_END.test(host))) {
    throw wrong(`${JSON.stringify(host)} is no host; write an IP address without brackets, or a name`);
  }
  if (!Number.isInteger(port) || port < firstPort || port > 65_535) {
    throw wrong(`${port} is no port; write a whole number from ${firstPort} to 65535`);
  }
  if (key !== undefined && !KEY.test(key)) {
    throw wrong(`${JSON.stringify(key)} is no key of a node; write its 64 hexadecimal digits in lower case`);
  }
}

const wrong = (message: string): DstackError => new DstackError('WIRE_ADDRESS', message);
