/** What a daemon learns about the image that it is part of. The file is measured, so it can be trusted. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ImageInfo, ImageInfoSchema } from '../protocol/network-config.ts';
import { parseJson } from '../protocol/schema.ts';

const MAX_BYTES = 4096;

/**
 * Reads /usr/lib/dstack/flavour.json.
 * @param root prefix of every path, empty in the guest
 * @throws DstackError IMAGE_INFO
 */
export function readImageInfo(root: string): ImageInfo {
  const text = readFileSync(join(root, '/usr/lib/dstack/flavour.json'), 'utf8');
  return parseJson(ImageInfoSchema, text, 'IMAGE_INFO', 'flavour.json', MAX_BYTES);
}
