/** Every packet between a VM and its host: QEMU's own `filter-dump` on the network card, put there while the VM runs. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

/** Asks QEMU to copy all packets from now on into a file in pcap's format. */
export function capturePackets(qmpSocket: string, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(qmpSocket);
    let said = '';
    socket.setTimeout(60_000, () => socket.destroy(new Error(`QMP did not answer: ${said}`)));
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      said += chunk.toString('utf8');
      if (said.includes('"error"')) socket.destroy(new Error(`QMP refused: ${said}`));
      if (/\{"return": \{\}, "id": 1\}/.test(said)) {
        socket.end();
        resolve();
      }
    });
    const dump = { 'qom-type': 'filter-dump', id: 'dump', netdev: 'net', file };
    const commands = [{ execute: 'qmp_capabilities' }, { execute: 'object-add', arguments: dump, id: 1 }];
    socket.write(commands.map((command) => JSON.stringify(command)).join('\n'));
  });
}

/**
 * What was said in each direction of each TCP and UDP conversation, by name. The payloads are joined in the order of
 * the capture, so that nothing hides in the seam of two packets; a retransmitted segment occurs twice, which does not matter to a search.
 */
export function conversations(file: string): Map<string, Buffer> {
  const bytes = readFileSync(file);
  const flows = new Map<string, Buffer[]>();
  // libpcap's file format: a header of 24 bytes, then a header of 16 bytes before each packet.
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    const found = payloadOf(bytes.subarray(at + 16, at + 16 + length));
    if (found !== undefined) flows.set(found.flow, [...(flows.get(found.flow) ?? []), found.payload]);
    at += 16 + length;
  }
  return new Map([...flows].map(([flow, parts]) => [flow, Buffer.concat(parts)]));
}

/** Of an Ethernet frame that holds IPv4 with TCP or UDP. */
function payloadOf(frame: Buffer): { flow: string; payload: Buffer } | undefined {
  if (frame.length < 34 || frame.readUInt16BE(12) !== 0x0800) return undefined;
  const packet = frame.subarray(14, 14 + frame.readUInt16BE(16));
  const segment = packet.subarray((packet[0]! & 15) * 4);
  const protocol = ({ 6: 'tcp', 17: 'udp' } as Record<number, string>)[packet[9]!];
  if (protocol === undefined || segment.length < 8) return undefined;
  const header = protocol === 'udp' ? 8 : (segment[12]! >> 4) * 4;
  const end = (at: number, port: number) =>
    `${[...packet.subarray(at, at + 4)].join('.')}:${segment.readUInt16BE(port)}`;
  return { flow: `${protocol} ${end(12, 0)} to ${end(16, 2)}`, payload: segment.subarray(header) };
}
