/**
 * Ports for what a test starts later: a process that takes its port as a number, or something that goes and comes again at the same
 * place. They are below Linux's ephemeral ports: one of those, free when it was looked at, goes to anybody's next connection.
 */
import { createServer } from 'node:net';

/** Above those of the demo's hosts, and below 32,768 (ip_local_port_range). */
const FIRST = 22_600;
/**
 * Test files run in processes of their own, a few at a time; each has a block that no other of the same run has meanwhile: a port whose server
 * is down for a moment must not be free for another file.
 */
const BLOCKS = 200;
const SIZE = 50;
/** More than run at a time. */
const WORKERS = 64;
const worker = process.env.VITEST_POOL_ID;
const owner = worker === undefined ? process.pid : process.ppid * WORKERS + (Number(worker) % WORKERS);
const start = FIRST + (owner % BLOCKS) * SIZE;
/** Not where the file before began: something of it may still look for its server. */
let given = Math.floor(Math.random() * SIZE);

/** One of the loopback's that nothing listens at, and that nobody here is given again before a whole round of them. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < SIZE; tries++) {
    const port = start + (given++ % SIZE);
    if (await isFree(port)) return port;
  }
  throw new Error(`none of the ports from ${start} to ${start + SIZE - 1} is free`);
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
