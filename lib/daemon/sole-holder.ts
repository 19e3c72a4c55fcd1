/** One process at a time for a folder, where two would take each other's sockets. */
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createServer } from 'node:net';

/**
 * Holds a folder that is there until this process ends, however that ends: by a socket without a file (unix(7), "abstract"), which no crash
 * leaves behind.
 * @param purpose what it is held for, one word: holders for different purposes do not meet
 * @returns whether nobody held it
 */
export async function holdFolder(path: string, purpose: string): Promise<boolean> {
  return (await takeFolder(path, purpose)) !== undefined;
}

/**
 * The same, until then or until it is let go.
 * @returns what lets it go; undefined where somebody holds it
 */
export async function takeFolder(path: string, purpose: string): Promise<(() => void) | undefined> {
  const { dev, ino } = statSync(path);
  const server = createServer((socket) => socket.destroy());
  server.listen(`\0dstack-${purpose}-${dev}-${ino}`).unref();
  try {
    await once(server, 'listening');
    return () => void server.close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    return undefined;
  }
}
