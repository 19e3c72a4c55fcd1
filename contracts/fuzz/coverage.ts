/**
 * Which branches of the contract ran, in both directions.
 *
 * A branch is a JUMPI, and it has two directions: it jumps or it falls through. solc's source map says which text
 * each JUMPI comes from: the condition of an `if`, a `?:`, a `&&` or a loop. Jumps that the compiler adds (dispatch, checks of
 * calldata) have no narrower origin than the contract, and are not counted. Measured on unoptimised code, where each branch of
 * the source is still one JUMPI; the optimiser merges some and copies others.
 */
import { compileTraceable, type MappedCode, type TraceableNetwork } from '../compile.ts';
import type { FuzzChain } from './chain.ts';
import type { Observe } from './run.ts';

const JUMPI = 0x57;
const PUSH0 = 0x5f;
const PUSH32 = 0x7f;
/** Views change little, so their branches are traced in every tenth block only. */
const VIEWS_EVERY = 10;

/** A `debug_traceTransaction` without a tracer. */
interface Trace {
  readonly structLogs: readonly { readonly pc: number; readonly depth: number }[];
}

/** A branch that is written in Network.sol or OpenZeppelin. */
interface Branch {
  readonly pc: number;
  readonly where: string;
  /** Why one direction can't run, if that is known. */
  readonly why: string;
  taken: boolean;
  passed: boolean;
}

export interface CoverageReport {
  /** Directions of branches; each branch has two. */
  readonly covered: number;
  readonly total: number;
  /** Each branch of which a direction never ran, with the reason if it is known that it can't. */
  readonly uncovered: readonly { readonly where: string; readonly missing: string; readonly why: string }[];
}

/**
 * Why a direction can't run, by the text of the branch and, where it matters, the direction. Anything else that is
 * uncovered is a gap.
 */
const UNREACHABLE: readonly (readonly [text: string, why: string])[] = [
  ['RecoverError.InvalidSignatureLength', 'recover(hash, r, vs) takes two words: no length can be wrong'],
  ['RecoverError.InvalidSignatureS', 'the last of four errors: when the others are excluded, this is it'],
  ['result > 0x1f', 'names of up to 31 bytes are stored as short strings, and "Dstack" and "1" are'],
  ['bstr.length > 0x1f', 'names of up to 31 bytes are stored as short strings, and "Dstack" and "1" are'],
  ['address(this) == _cachedThis', 'the code runs at its own address only: there is no proxy'],
];
/** The same, in the constructor alone. */
const UNREACHABLE_IN_CREATION: readonly (readonly [text: string, why: string])[] = [
  [
    '_core.epoch != 0',
    'the constructor sets the first delay: there is no epoch yet, so nothing is shortened',
  ],
  ['shortens', 'the constructor sets the first delay: there is no epoch yet, so nothing is shortened'],
  ['_core.delayShortens', 'the constructor sets the first delay: there is none before it'],
  ['_core.epoch == 0', 'the constructor sets the first statuses: there is no epoch yet, so they do not wait'],
  ['statuses & UP_TO_DATE', 'the constructor sets the first statuses, which are sound'],
  ['sound', 'the constructor sets the first statuses, which are sound'],
  ['stricter == value', 'the constructor sets the first statuses: before them there are none'],
  ['block.timestamp >= setting.from', 'the constructor sets the first statuses: before them there are none'],
];
export const UNEXPLAINED = 'not reached';

/** Collects which branches ran, of the constructor and of the code that it leaves. */
export class BranchCoverage {
  /** Creation code of the unoptimised contract, `0x` hex: what a measured campaign has to play. */
  readonly bytecode: string;
  readonly #creation: ReadonlyMap<number, Branch>;
  readonly #runtime: ReadonlyMap<number, Branch>;
  readonly #seen = new Set<string>();
  #blocks = 0;

  constructor() {
    const { creation, runtime, sources } = compileTraceable();
    this.bytecode = `0x${creation.object}`;
    this.#creation = branchesOf(creation, sources, [...UNREACHABLE_IN_CREATION, ...UNREACHABLE]);
    this.#runtime = branchesOf(runtime, sources, UNREACHABLE);
  }

  /** Traces what is new in a block. */
  async observe(chain: FuzzChain, ...[block, names, views]: Parameters<Observe>): Promise<void> {
    const options = { disableStack: true, disableMemory: true, disableStorage: true };
    for (const [i, transaction] of block.transactions.entries()) {
      const name = names[i]!;
      // Two runs of the same function with the same gas almost always took the same branches; where they did not,
      // coverage is understated.
      const kind = `${name} ${transaction.ok} ${transaction.gasUsed}`;
      if (this.#seen.has(kind)) continue;
      this.#seen.add(kind);
      const trace = await chain.rpc<Trace>('debug_traceTransaction', transaction.hash, options);
      mark(name === 'deploy' ? this.#creation : this.#runtime, trace);
    }
    this.#blocks += 1;
    if (this.#blocks % VIEWS_EVERY !== 0) return;
    for (const { to, data } of views) {
      mark(this.#runtime, await chain.rpc<Trace>('debug_traceCall', { to, data }, 'latest', options));
    }
  }

  report(): CoverageReport {
    const branches = [...this.#creation.values(), ...this.#runtime.values()];
    return {
      covered: branches.reduce((sum, { taken, passed }) => sum + Number(taken) + Number(passed), 0),
      total: branches.length * 2,
      uncovered: branches
        .filter(({ taken, passed }) => !taken || !passed)
        .map(({ where, why, taken, passed }) => ({
          where,
          missing: !taken && !passed ? 'neither way' : taken ? 'never fell through' : 'never jumped',
          why,
        })),
    };
  }
}

/** Marks what ran at the outermost depth of a trace. */
function mark(branches: ReadonlyMap<number, Branch>, { structLogs }: Trace): void {
  let last: Branch | undefined;
  for (const { pc, depth } of structLogs) {
    if (depth !== 1) continue;
    if (last) {
      if (pc === last.pc + 1) last.passed = true;
      else last.taken = true;
    }
    last = branches.get(pc);
  }
}

function branchesOf(
  code: MappedCode,
  sources: TraceableNetwork['sources'],
  unreachable: typeof UNREACHABLE,
): ReadonlyMap<number, Branch> {
  const bytes = Buffer.from(code.object, 'hex');
  const entries = code.sourceMap.split(';');
  const byId = new Map(sources.map((source) => [source.id, source]));
  const found = new Map<number, Branch>();
  // Fields that an entry leaves out are those of the entry before.
  let [start, length, file] = [0, 0, -1];
  for (let pc = 0, i = 0; pc < bytes.length && i < entries.length; i++) {
    const [newStart, newLength, newFile] = entries[i]!.split(':');
    if (newStart) start = Number(newStart);
    if (newLength) length = Number(newLength);
    if (newFile) file = Number(newFile);
    const op = bytes[pc]!;
    const source = byId.get(file);
    if (op === JUMPI && source) {
      const text = Buffer.from(source.text)
        .subarray(start, start + length)
        .toString();
      // The compiler's own branches have no narrower origin than a whole contract, a constant or a function's name.
      const isWritten = /^(if\b|.*[?<>=!&|])/s.test(text) && !/^(contract |keccak256\()/.test(text);
      if (isWritten) {
        const where = place(source, start, text);
        const why = unreachable.find(([part]) => where.includes(part))?.[1] ?? UNEXPLAINED;
        found.set(pc, { pc, where, why, taken: false, passed: false });
      }
    }
    // The length of an instruction with its immediate data.
    pc += op > PUSH0 && op <= PUSH32 ? op - PUSH0 + 1 : 1;
  }
  return found;
}

/** File, line and text of a branch. */
function place(source: TraceableNetwork['sources'][number], start: number, text: string): string {
  const line = Buffer.from(source.text).subarray(0, start).toString().split('\n').length;
  const oneLine = text.replace(/\s+/g, ' ');
  const short = oneLine.length > 90 ? `${oneLine.slice(0, 90)}…` : oneLine;
  return `${source.path.split('/').at(-1)}:${line} ${short}`;
}
