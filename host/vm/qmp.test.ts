import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { qmpCommand } from './qmp.ts';

let folder: string;
let server: Server | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-qmp-'));
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

async function qemuThat(does: (socket: Socket, line: string) => void): Promise<string> {
  const path = join(folder, 'qmp.sock');
  server = createServer((socket) => {
    socket.write('{"QMP":{"version":{}}}\n');
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) does(socket, line);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  return path;
}

describe('a command to QEMU', () => {
  it('is taken after the capabilities, with events in between', async () => {
    const seen: string[] = [];
    const path = await qemuThat((socket, line) => {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      seen.push(execute);
      socket.write(`{"event":"SHUTDOWN"}\n{"return":{},"id":${id}}\n`);
    });
    await qmpCommand(path, 'quit');
    expect(seen).toEqual(['qmp_capabilities', 'quit']);
  });

  it("fails with QEMU's words", async () => {
    const path = await qemuThat((socket) => socket.write('{"error":{"desc":"no such command"}}\n'));
    await expect(qmpCommand(path, 'x')).rejects.toThrow(/no such command/);
  });

  it('fails on what is not JSON, on a hang-up, and on nobody there', async () => {
    const noise = await qemuThat((socket) => socket.write('garbage\n'));
    expect(codeOf(await qmpCommand(noise, 'quit').catch((error) => error))).toBe('QMP');
    server?.close();
    rmSync(noise, { force: true });
    const hangUp = await qemuThat((socket) => socket.destroy());
    expect(codeOf(await qmpCommand(hangUp, 'quit').catch((error) => error))).toBe('QMP');
    const nobody = join(folder, 'nobody.sock');
    expect(codeOf(await qmpCommand(nobody, 'quit').catch((error) => error))).toBe('QMP');
  });
});
