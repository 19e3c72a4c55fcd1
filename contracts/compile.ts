/**
 * Compiles Network.sol, and Publications.sol, with the pinned solc from node_modules. Everything that decides the bytes is in this file and in
 * package-lock.json, so anyone's build gives the same bytecode: that is how an auditor checks a deployed network.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DstackError } from '../lib/protocol/errors.ts';

const CONTRACTS = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const OPENZEPPELIN = '@openzeppelin/contracts/';

/** One input or output of a function, event or error, as in Solidity's JSON ABI. */
export interface AbiParameter {
  readonly name: string;
  readonly type: string;
  readonly internalType?: string;
  readonly indexed?: boolean;
  readonly components?: readonly AbiParameter[];
}

/** One entry of Solidity's JSON ABI. */
export interface AbiEntry {
  readonly type: 'function' | 'event' | 'error' | 'constructor';
  readonly name?: string;
  readonly inputs: readonly AbiParameter[];
  readonly outputs?: readonly AbiParameter[];
  readonly stateMutability?: string;
}

/** Where a state variable lives, for reading it with `eth_getProof`. */
export interface StorageVariable {
  readonly label: string;
  readonly slot: string;
  readonly offset: number;
}

export interface CompiledNetwork {
  readonly abi: readonly AbiEntry[];
  /** Creation code without constructor arguments, `0x` hex. */
  readonly bytecode: string;
  /** Runtime code with immutables zeroed, `0x` hex. */
  readonly runtimeBytecode: string;
  /** Byte ranges of the runtime code that the constructor fills in. */
  readonly immutables: readonly { readonly start: number; readonly length: number }[];
  readonly storage: readonly StorageVariable[];
  /** The members of each enum, in order. */
  readonly enums: Readonly<Record<string, readonly string[]>>;
  /** The NatSpec notice of each function, event and error, by its name. */
  readonly notices: Readonly<Record<string, string>>;
  /** solc's full version. */
  readonly compiler: string;
}

/** The compiler settings. A fixed EVM version, so that a newer solc's default does not change the bytes. */
const SETTINGS = {
  evmVersion: 'cancun',
  viaIR: true,
  // Deployed once, called for years: optimise for calls.
  optimizer: { enabled: true, runs: 1_000_000 },
  // Without metadata a changed comment does not change the bytecode.
  metadata: { bytecodeHash: 'none', appendCBOR: false },
  outputSelection: {
    'Network.sol': {
      Network: [
        'abi',
        'evm.bytecode.object',
        'evm.deployedBytecode.object',
        'evm.deployedBytecode.immutableReferences',
        'storageLayout',
      ],
    },
    'INetwork.sol': { '': ['ast'], INetwork: ['userdoc'] },
  },
};

interface Notices {
  readonly [signature: string]: { readonly notice?: string } | readonly { readonly notice?: string }[];
}

interface AstNode {
  readonly nodeType: string;
  readonly name?: string;
  readonly nodes?: readonly AstNode[];
  readonly members?: readonly { readonly name: string }[];
}

interface SolcOutput {
  readonly sources: { readonly 'INetwork.sol': { readonly ast: AstNode } };
  readonly contracts: {
    readonly 'Network.sol': {
      readonly Network: {
        readonly abi: readonly AbiEntry[];
        readonly evm: {
          readonly bytecode: { readonly object: string };
          readonly deployedBytecode: {
            readonly object: string;
            readonly immutableReferences: Record<string, readonly { start: number; length: number }[]>;
          };
        };
        readonly storageLayout: { readonly storage: readonly StorageVariable[] };
      };
    };
    readonly 'INetwork.sol': {
      readonly INetwork: {
        readonly userdoc: {
          readonly methods?: Notices;
          readonly events?: Notices;
          readonly errors?: Notices;
        };
      };
    };
  };
}

interface Solc {
  compile(
    input: string,
    callbacks: { import(path: string): { contents: string } | { error: string } },
  ): string;
  version(): string;
}

/**
 * Compiles the contract; takes a few seconds.
 *
 * @throws DstackError `SOLC_FAILED` on any error or warning: the contract has none, so a new one deserves a look.
 */
export function compileNetwork(): CompiledNetwork {
  const solc: Solc = require('solc');
  const output = compiled<SolcOutput>(solc, networkSource(), SETTINGS, 'refused');
  const network = output.contracts['Network.sol'].Network;
  const { methods = {}, events = {}, errors = {} } = output.contracts['INetwork.sol'].INetwork.userdoc;
  return {
    abi: network.abi,
    bytecode: `0x${network.evm.bytecode.object}`,
    runtimeBytecode: `0x${network.evm.deployedBytecode.object}`,
    immutables: Object.values(network.evm.deployedBytecode.immutableReferences)
      .flat()
      .map(({ start, length }) => ({ start, length }))
      .sort((a, b) => a.start - b.start),
    storage: network.storageLayout.storage.map(({ label, slot, offset }) => ({ label, slot, offset })),
    enums: enumsIn(output.sources['INetwork.sol'].ast),
    notices: noticesByName({ ...methods, ...events, ...errors }),
    compiler: solc.version(),
  };
}

/** What is deployed of Publications.sol. */
export interface CompiledPublications {
  readonly abi: readonly AbiEntry[];
  /** Creation code, `0x` hex: it takes no arguments. */
  readonly bytecode: string;
  readonly runtimeBytecode: string;
}

/** Compiles Publications.sol. @throws DstackError `SOLC_FAILED` as `compileNetwork` */
export function compilePublications(): CompiledPublications {
  const outputs = ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'];
  const settings = { ...SETTINGS, outputSelection: { [PUBLICATIONS]: { Publications: outputs } } };
  const output = compiled<PublicationsOutput>(
    require('solc'),
    textOf(PUBLICATIONS),
    settings,
    'refused',
    PUBLICATIONS,
  );
  const { abi, evm } = output.contracts[PUBLICATIONS].Publications;
  return {
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    runtimeBytecode: `0x${evm.deployedBytecode.object}`,
  };
}

const PUBLICATIONS = 'Publications.sol';

interface PublicationsOutput {
  readonly contracts: {
    readonly [PUBLICATIONS]: {
      readonly Publications: {
        readonly abi: readonly AbiEntry[];
        readonly evm: {
          readonly bytecode: { readonly object: string };
          readonly deployedBytecode: { readonly object: string };
        };
      };
    };
  };
}

/** The text of Network.sol. */
export function networkSource(): string {
  return readFileSync(join(CONTRACTS, 'Network.sol'), 'utf8');
}

/**
 * The contract with every source that it is made of, and the settings: solc's standard JSON input, as block explorers take it to
 * compare a network's code with its source. Paths are those that solc sees.
 */
export function standardJsonInput(): string {
  const sources = new Map<string, string>([['Network.sol', networkSource()]]);
  for (const [path, text] of sources) {
    for (const [, imported] of text.matchAll(/^import (?:[^"';]*from )?["']([^"']+)["'];/gm)) {
      const at = imported!.startsWith('.') ? normalize(join(dirname(path), imported!)) : imported!;
      if (!sources.has(at)) sources.set(at, textOf(at));
    }
  }
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries([...sources].map(([path, content]) => [path, { content }])),
    settings: {
      ...SETTINGS,
      outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
    },
  };
  return `${JSON.stringify(input, null, 2)}\n`;
}

/** Bytecode, and where each of its instructions comes from. */
export interface MappedCode {
  /** Without `0x`; immutables zeroed. */
  readonly object: string;
  /** solc's compressed source map: `start:length:file:jump:depth` for each instruction. */
  readonly sourceMap: string;
}

export interface TraceableNetwork {
  readonly creation: MappedCode;
  readonly runtime: MappedCode;
  /** The text of each source and the number by which source maps name it. */
  readonly sources: readonly { readonly path: string; readonly id: number; readonly text: string }[];
}

/**
 * Compiles without the optimiser and with source maps, for the fuzz: each branch of the source is then one jump. Such code
 * may be larger than a chain would take, so it is deployed on the fuzz's own chain only.
 *
 * @param source the text of Network.sol. solc's warnings are ignored here: `compileNetwork` refuses them, and a mutant may have some.
 * @throws DstackError `SOLC_FAILED` as `compileNetwork`
 */
export function compileTraceable(source: string = networkSource()): TraceableNetwork {
  const code = ['object', 'sourceMap'];
  const outputs = [
    ...code.map((it) => `evm.bytecode.${it}`),
    ...code.map((it) => `evm.deployedBytecode.${it}`),
  ];
  const settings = {
    ...SETTINGS,
    optimizer: { enabled: false },
    outputSelection: { 'Network.sol': { Network: outputs }, '*': { '': ['ast'] } },
  };
  const output = compiled<TraceableOutput>(require('solc'), source, settings, 'accepted');
  const { bytecode, deployedBytecode } = output.contracts['Network.sol'].Network.evm;
  const sources = Object.entries(output.sources).map(([path, { id }]) => {
    return { path, id, text: path === 'Network.sol' ? source : textOf(path) };
  });
  return { creation: bytecode, runtime: deployedBytecode, sources };
}

interface TraceableOutput {
  readonly sources: Readonly<Record<string, { readonly id: number }>>;
  readonly contracts: {
    readonly 'Network.sol': {
      readonly Network: {
        readonly evm: { readonly bytecode: MappedCode; readonly deployedBytecode: MappedCode };
      };
    };
  };
}

function textOf(path: string): string {
  const found = readImport(path);
  if ('error' in found) throw new DstackError('SOLC_FAILED', found.error);
  return found.contents;
}

function compiled<T>(
  solc: Solc,
  source: string,
  settings: unknown,
  warnings: 'refused' | 'accepted',
  path = 'Network.sol',
): T {
  const input = { language: 'Solidity', sources: { [path]: { content: source } }, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport })) as Partial<T> & {
    readonly errors?: readonly {
      readonly severity: string;
      readonly formattedMessage: string;
    }[];
    readonly contracts?: unknown;
    readonly sources?: unknown;
  };
  const refused = (output.errors ?? []).filter(
    ({ severity }) => severity === 'error' || warnings === 'refused',
  );
  if (refused.length > 0 || !output.contracts || !output.sources) {
    const messages = refused.map((error) => error.formattedMessage).join('\n');
    throw new DstackError('SOLC_FAILED', `solc did not accept contracts/${path} as it is:\n${messages}`);
  }
  return output as T;
}

/** Reads a source that another imports: from this folder or from the pinned OpenZeppelin package, nowhere else. */
function readImport(path: string): { contents: string } | { error: string } {
  const isOpenZeppelin = path.startsWith(OPENZEPPELIN);
  if (normalize(path) !== path || path.startsWith('..') || path.startsWith('/')) {
    return { error: `${path} is outside the folders that sources may come from` };
  }
  const file = isOpenZeppelin
    ? join(dirname(require.resolve('@openzeppelin/contracts/package.json')), path.slice(OPENZEPPELIN.length))
    : join(CONTRACTS, path);
  try {
    return { contents: readFileSync(file, 'utf8') };
  } catch (error) {
    return { error: String(error) };
  }
}

function enumsIn(node: AstNode): Record<string, readonly string[]> {
  const own =
    node.nodeType === 'EnumDefinition' && node.name
      ? { [node.name]: (node.members ?? []).map((member) => member.name) }
      : {};
  return Object.assign(own, ...(node.nodes ?? []).map(enumsIn));
}

function noticesByName(notices: Notices): Record<string, string> {
  const byName: Record<string, string> = {};
  for (const [signature, entry] of Object.entries(notices)) {
    // solc gives a list for an error, since one signature may be declared twice.
    const notice = 'notice' in entry ? entry.notice : (entry as readonly { notice?: string }[])[0]?.notice;
    if (notice) byName[signature.slice(0, signature.indexOf('('))] = notice;
  }
  return byName;
}
