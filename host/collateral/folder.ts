/**
 * Host-supplied collateral: a folder of collateral.json files, for hosts that can reach no service. Gives the newest of the
 * platform's kind; says once that a file is not collateral, and skips it.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Collateral, parseCollateral } from '../../lib/attestation/collateral/collateral.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { type Inspection, inspectCollateral } from './inspect.ts';
import { type CollateralSource, kindName } from './source.ts';

const MAX_FILES = 256;

export function folderSource(directory: string, log: Log, now: () => number = Date.now): CollateralSource {
  const said = new Set<string>();

  function read(path: string): { collateral: Collateral; inspection: Inspection } | undefined {
    let version = path;
    try {
      const { size, mtimeMs } = statSync(path);
      version = `${path} ${mtimeMs}`;
      if (size > MESSAGE_MAX_BYTES)
        throw new RangeError(`it has ${size} bytes, more than ${MESSAGE_MAX_BYTES}`);
      const collateral = parseCollateral(readFileSync(path, 'utf8'));
      return { collateral, inspection: inspectCollateral(collateral, undefined, now()) };
    } catch (error) {
      if (!said.has(version) && said.size < 2 * MAX_FILES) {
        said.add(version);
        log.warn({ code: codeOf(error), file: path }, `not used as collateral: ${(error as Error).message}`);
      }
      return undefined;
    }
  }

  return {
    name: directory,
    async find(kind) {
      const found = readdirSync(directory)
        .filter((name) => name.endsWith('.json'))
        .sort()
        .slice(0, MAX_FILES)
        .map((name) => read(join(directory, name)))
        .filter((candidate) => candidate !== undefined)
        .filter(({ inspection }) => kindName(inspection.kind) === kindName(kind))
        .sort((a, b) => b.inspection.nextUpdate - a.inspection.nextUpdate);
      return found[0]?.collateral;
    },
  };
}
