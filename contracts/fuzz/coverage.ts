/**
 * Which branches of the contract ran, both ways.
 *
 * A branch is a JUMPI, and it has two directions: it jumps or it goes on. solc's source map says which text each JUMPI
 * comes from: the condition of an `if`, a `?:`, a `&&`, a loop; or nothing narrower than the contract, for what the
 * compiler adds (dispatch, checks of calldata). Measured on unoptimised code, where each branch of the source is still
 * one JUMPI; the optimiser merges some and copies others, so on the deployed code the counts say less about the source.
 */
import type { MappedCode, TraceableNetwork } from '../compile.ts';

const JUMPI = 0x57;
const JUMP = 0x56;
const REVERT = 0xfd;
const PUSH0 = 0x5f;
const PUSH4 = 0x63;
const PUSH32 = 0x7f;
/** The selector of Solidity's `Panic(uint256)`: overflow, an index out of bounds, too much memory. */
const PANIC = 0x4e487b71;
/** Instructions to follow before giving up on what a branch leads to. */
const FOLLOWED = 40;

/** One step of a `debug_traceTransaction` without a tracer. */
export interface StructLog {
  readonly pc: number;
  readonly op: string;
  readonly depth: number;
}

/** What a branch leads to. */
type End = 'panic' | 'refusal without data' | 'other';

interface Branch {
  readonly pc: number;
  /** Where in which file; undefined for what the compiler added. */
  readonly at: { readonly file: string; readonly line: number; readonly text: string } | undefined;
  /** Where it jumps to, if that is a constant beside it. */
  readonly target: number | undefined;
  taken: boolean;
  passed: boolean;
}

export interface CoverageFigures {
  readonly covered: number;
  readonly total: number;
}

export interface CoverageReport {
  /** Branches that are written in Network.sol or OpenZeppelin. */
  readonly source: CoverageFigures;
  /** Branches that the compiler added. */
  readonly compiler: CoverageFigures;
  /** What the directions of the compiler's branches that never ran would have led to. */
  readonly compilerUncovered: Readonly<Record<End, number>>;
  /** Each direction of a source branch that never ran, with the reason if it is known that it can't. */
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

export class BranchCoverage {
  readonly #byPc: ReadonlyMap<number, Branch>;
  readonly #unreachable: typeof UNREACHABLE;
  readonly #bytes: Buffer;

  constructor(which: 'creation' | 'runtime', { sources, ...codes }: TraceableNetwork) {
    const code = codes[which];
    this.#bytes = Buffer.from(code.object, 'hex');
    this.#unreachable = which === 'creation' ? [...UNREACHABLE_IN_CREATION, ...UNREACHABLE] : UNREACHABLE;
    this.#byPc = new Map(branchesOf(code, sources).map((branch) => [branch.pc, branch]));
  }

  /** Counts what ran at the outermost depth of a trace. */
  add(steps: readonly StructLog[]): void {
    let last: Branch | undefined;
    for (const { pc, depth } of steps) {
      if (depth !== 1) continue;
      if (last) {
        if (pc === last.pc + 1) last.passed = true;
        else last.taken = true;
      }
      last = this.#byPc.get(pc);
    }
  }

  report(): CoverageReport {
    const branches = [...this.#byPc.values()];
    const figures = (of: readonly Branch[]): CoverageFigures => ({
      covered: of.reduce((sum, { taken, passed }) => sum + Number(taken) + Number(passed), 0),
      total: of.length * 2,
    });
    const source = branches.filter((branch) => branch.at !== undefined);
    const compiler = branches.filter((branch) => branch.at === undefined);
    const compilerUncovered = { panic: 0, 'refusal without data': 0, other: 0 };
    for (const { pc, target, taken, passed } of compiler) {
      if (!taken) compilerUncovered[endOf(this.#bytes, target)] += 1;
      if (!passed) compilerUncovered[endOf(this.#bytes, pc + 1)] += 1;
    }
    return {
      source: figures(source),
      compiler: figures(compiler),
      compilerUncovered,
      uncovered: source
        .filter(({ taken, passed }) => !taken || !passed)
        .map(({ at, taken, passed }) => ({
          where: `${at!.file}:${at!.line} ${at!.text}`,
          missing: !taken && !passed ? 'neither way' : taken ? 'never fell through' : 'never jumped',
          why: this.#unreachable.find(([text]) => at!.text.includes(text))?.[1] ?? UNEXPLAINED,
        })),
    };
  }
}

function branchesOf(code: MappedCode, sources: TraceableNetwork['sources']): Branch[] {
  const bytes = Buffer.from(code.object, 'hex');
  const entries = code.sourceMap.split(';');
  const byId = new Map(sources.map((source) => [source.id, source]));
  const found: Branch[] = [];
  // Fields that an entry leaves out are those of the entry before.
  let [start, length, file] = [0, 0, -1];
  let pushed: number | undefined;
  for (let pc = 0, i = 0; pc < bytes.length && i < entries.length; i++) {
    const [newStart, newLength, newFile] = entries[i]!.split(':');
    if (newStart) start = Number(newStart);
    if (newLength) length = Number(newLength);
    if (newFile) file = Number(newFile);
    const op = bytes[pc]!;
    if (op === JUMPI) {
      const source = byId.get(file);
      const text =
        source &&
        Buffer.from(source.text)
          .subarray(start, start + length)
          .toString();
      // The compiler's own branches have no narrower origin than a whole contract, a constant or a function's name.
      const isWritten =
        text !== undefined && /^(if\b|.*[?<>=!&|])/s.test(text) && !text.startsWith('contract ');
      found.push({
        pc,
        at: isWritten && !text.startsWith('keccak256(') ? place(source!, start, text) : undefined,
        target: pushed,
        taken: false,
        passed: false,
      });
    }
    pushed = pushedBy(bytes, pc);
    pc += sizeOf(op);
  }
  return found;
}

/** The length of an instruction with what it pushes. */
function sizeOf(op: number): number {
  return op > PUSH0 && op <= PUSH32 ? op - PUSH0 + 1 : 1;
}

/** The constant that the instruction pushes, if it is one that can be a place in the code. */
function pushedBy(bytes: Buffer, pc: number): number | undefined {
  const size = sizeOf(bytes[pc]!) - 1;
  return size === 0 || size > 3 ? undefined : bytes.readUIntBE(pc + 1, size);
}

/** What straight-line code from `pc` on ends in, over a few jumps to constants. */
function endOf(bytes: Buffer, from: number | undefined): End {
  let pc = from;
  let pushed: number | undefined;
  for (let steps = 0; pc !== undefined && pc < bytes.length && steps < FOLLOWED; steps++) {
    const op: number = bytes[pc]!;
    // As a whole word, or as a selector that is shifted into place.
    if ((op === PUSH32 || op === PUSH4) && bytes.readUInt32BE(pc + 1) === PANIC) return 'panic';
    if (op === REVERT) return 'refusal without data';
    if (op === JUMPI) return 'other';
    const next: number | undefined = op === JUMP ? pushed : pc + sizeOf(op);
    pushed = pushedBy(bytes, pc);
    pc = next;
  }
  return 'other';
}

function place(
  source: TraceableNetwork['sources'][number],
  start: number,
  text: string,
): NonNullable<Branch['at']> {
  const line = Buffer.from(source.text).subarray(0, start).toString().split('\n').length;
  const oneLine = text.replace(/\s+/g, ' ');
  return {
    file: source.path.split('/').at(-1)!,
    line,
    text: oneLine.length > 90 ? `${oneLine.slice(0, 90)}…` : oneLine,
  };
}
