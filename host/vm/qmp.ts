/** QEMU's machine protocol (docs/interop/qmp-spec.rst), as much of it as stopping a VM takes. */
import { connect } from 'node:net';
import { DstackError } from '../../lib/protocol/errors.ts';

const timeoutMs = 3000;

/**
 * Sends one command without arguments; resolves when QEMU has taken it.
 * @throws DstackError QMP when QEMU cannot be reached, refuses, or does not answer in 3 seconds.
 */
export function qmpCommand(socketPath: string, command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const fail = (why: string) => {
      socket.destroy();
      reject(new DstackError('QMP', `${command} through ${socketPath}: ${why}`));
    };
    socket.setTimeout(timeoutMs, () => fail('no answer'));
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => fail('QEMU hung up'));
    socket.write(`{"execute":"qmp_capabilities","id":0}\n${JSON.stringify({ execute: command, id: 1 })}\n`);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('utf8');
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        let message: { id?: number; error?: { desc?: string } };
        try {
          message = JSON.parse(line);
        } catch {
          return fail('QEMU sent what is not JSON');
        }
        if (message.error !== undefined) return fail(message.error.desc ?? 'refused');
        if (message.id === 1) {
          socket.removeAllListeners('close');
          socket.end();
          return resolve();
        }
      }
    });
  });
}
