/** A header of the PROXY protocol, version 2 (haproxy.org, doc/proxy-protocol.txt, section 2.2): where a connection comes from. */
import { isIPv4, isIPv6 } from 'node:net';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const PROXY = 0x21;
const TCP4 = 0x11;
const TCP6 = 0x21;

export interface End {
  readonly address: string;
  readonly port: number;
}

/**
 * The bytes that a connection begins with; both ends are addresses of one family, IPv4 also when written as IPv6.
 * @throws TypeError for anything else
 */
export function proxyHeader(from: End, to: End): Buffer {
  const [source, destination] = [from, to].map(({ address }) => bytesOf(address));
  if (source!.length !== destination!.length)
    throw new TypeError(`${from.address} and ${to.address} differ in family`);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(from.port, 0);
  ports.writeUInt16BE(to.port, 2);
  const body = Buffer.concat([source!, destination!, ports]);
  const head = Buffer.from([PROXY, source!.length === 4 ? TCP4 : TCP6, 0, body.length]);
  return Buffer.concat([SIGNATURE, head, body]);
}

function bytesOf(address: string): Buffer {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (isIPv4(plain)) return Buffer.from(plain.split('.').map(Number));
  if (!isIPv6(plain)) throw new TypeError(`not an address: ${address}`);
  const [head = '', tail] = plain.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':'));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const zeros = new Array<string>(8 - before.length - after.length).fill('0');
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}
