/** Looks for known text in files as the host sees them: what it finds there is not encrypted. */
import { open, stat } from 'node:fs/promises';

const CHUNK = 8 * 1024 * 1024;

export interface Scan {
  mebibytes: number;
  /** Which text was found where. */
  hits: string[];
}

/** Finds each needle verbatim, as hex and as base64, also across chunks. */
export async function scanForPlaintext(files: readonly string[], needles: readonly string[]): Promise<Scan> {
  const patterns = needles.flatMap((needle) => {
    const bytes = Buffer.from(needle, 'utf8');
    return [
      bytes,
      Buffer.from(bytes.toString('hex')),
      Buffer.from(bytes.toString('base64').replace(/=+$/, '').slice(0, -1)),
    ];
  });
  const overlap = Math.max(...patterns.map(({ length }) => length)) - 1;
  const hits: string[] = [];
  let bytes = 0;
  for (const path of files) {
    const file = await open(path, 'r');
    try {
      const { size } = await stat(path);
      bytes += size;
      const buffer = Buffer.alloc(CHUNK + overlap);
      for (let at = 0; at < size; at += CHUNK) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        const part = buffer.subarray(0, bytesRead);
        for (const pattern of patterns) {
          if (part.includes(pattern)) hits.push(`${pattern.toString('utf8')} in ${path}`);
        }
      }
    } finally {
      await file.close();
    }
  }
  return { mebibytes: Math.round(bytes / 2 ** 20), hits: [...new Set(hits)] };
}
