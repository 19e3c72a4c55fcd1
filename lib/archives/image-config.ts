/**
 * What of an image's config the engine repeats for everybody: it lists all images and all containers with their labels, commands and
 * ports, in one answer. So that the answer stays one that can be read, whatever one app's images say, each of them may say so much.
 */
import { DstackError } from '../protocol/errors.ts';
import { parseUniqueJson } from '../protocol/json.ts';

/** As the engine writes it, besides history and layers. Bytes. */
export const IMAGE_CONFIG_MAX_BYTES = 32 * 1024;
/** The engine makes one of a range for each port in it. */
const MAX_PORTS = 64;
const PORT = /^\d{1,5}(\/(tcp|udp))?$/;
/** Not told to anybody who lists or shows the image's containers. */
const UNTOLD = new Set(['history', 'rootfs']);

/**
 * @param config JSON, as it was checked by its digest
 * @throws IMAGE_CONFIG
 */
export function assertImageConfig(config: Uint8Array): void {
  const all = parseUniqueJson(new TextDecoder().decode(config)) as object;
  const told = Object.fromEntries(Object.entries(all).filter(([name]) => !UNTOLD.has(name)));
  const bytes = Buffer.byteLength(JSON.stringify(told).replaceAll(/[<>&\u2028\u2029]/g, '\\u0000'));
  if (bytes > IMAGE_CONFIG_MAX_BYTES)
    throw new DstackError(
      'IMAGE_CONFIG',
      `the image's config has ${bytes} bytes besides its history, and may have ${IMAGE_CONFIG_MAX_BYTES}: give it shorter labels, variables or commands`,
    );
  // The engine takes a name without a value for a variable of its own, to be given on.
  if (
    !valuesOf(told, /^env$/iu).every(
      (one) => Array.isArray(one) && one.every((line) => String(line).includes('=')),
    )
  )
    throw new DstackError('IMAGE_CONFIG', 'the image has a variable without a value');
  const ports = valuesOf(told, /^exposedports$/iu).flatMap((one) => Object.keys(one));
  if (ports.length > MAX_PORTS || !ports.every((port) => PORT.test(port)))
    throw new DstackError(
      'IMAGE_CONFIG',
      `the image exposes a range of ports, or more than ${MAX_PORTS}: the manifest says which port leads to it`,
    );
}

/** Of a key at any depth: the engine takes one for the field whose name differs from it in case only (Go's encoding/json). */
function valuesOf(value: unknown, key: RegExp): object[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) =>
    key.test(name) ? [(inner as object | null) ?? []] : valuesOf(inner, key),
  );
}
