/** Compiles the contracts of an author's folder with the solc that the app has; of other packages they may import this one's base contract and OpenZeppelin's. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';
import { solcOf, toolOf } from './tools.ts';

const OURS = 'dstack/contracts/EnclaveApp.sol';
const OPENZEPPELIN = '@openzeppelin/contracts/';

export interface CompiledApp {
  readonly abi: readonly object[];
  /** Creation code, 0x hex. */
  readonly bytecode: string;
}

interface Output {
  readonly errors?: readonly { readonly severity: string; readonly formattedMessage: string }[];
  readonly contracts?: Record<
    string,
    Record<string, { readonly abi: readonly object[]; readonly evm: { bytecode: { object: string } } }>
  >;
}

/**
 * @param folder where the source is, and those that it imports by relative paths
 * @param file in it; its contract has the file's name
 * @throws SOLC_FAILED with the compiler's own words, DEV_TOOL
 */
export function compileApp(folder: string, file: string): CompiledApp {
  const name = file.replace(/\.sol$/, '');
  const path = join(folder, file);
  if (!existsSync(path)) throw new DstackError('SOLC_FAILED', `${path} is missing`);
  const solc = solcOf(folder);
  const input = {
    language: 'Solidity',
    sources: { [file]: { content: readFileSync(path, 'utf8') } },
    settings: {
      evmVersion: 'cancun',
      optimizer: { enabled: true, runs: 10_000 },
      outputSelection: { [file]: { [name]: ['abi', 'evm.bytecode.object'] } },
    },
  };
  const found = (imported: string) => importOf(folder, imported);
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: found })) as Output;
  const errors = (output.errors ?? []).filter(({ severity }) => severity === 'error');
  const compiled = output.contracts?.[file]?.[name];
  if (errors.length > 0 || compiled === undefined) {
    const details = errors.flatMap(({ formattedMessage }) => formattedMessage.split('\n'));
    throw new DstackError('SOLC_FAILED', `solc does not accept ${path}, or it has no contract ${name}`, {
      details,
    });
  }
  return { abi: compiled.abi, bytecode: `0x${compiled.evm.bytecode.object}` };
}

function importOf(folder: string, path: string): { contents: string } | { error: string } {
  if (normalize(path) !== path || path.startsWith('..') || path.startsWith('/'))
    return { error: `${path} is outside of the folders that sources may come from` };
  try {
    return { contents: readFileSync(fileOf(folder, path), 'utf8') };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

function fileOf(folder: string, path: string): string {
  if (path === OURS) return join(repository, 'contracts/EnclaveApp.sol');
  if (!path.startsWith(OPENZEPPELIN)) return join(folder, path);
  const root = dirname(toolOf(folder, '@openzeppelin/contracts/package.json'));
  return join(root, path.slice(OPENZEPPELIN.length));
}
